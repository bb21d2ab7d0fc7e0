"""Shipped mappings read what their sources publish, on small inputs in the same form."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer.mapping import read_mapping
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.data.validate import validate_dataset

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "import"

# mapping → (files, (user, item, moment, actions) of the log in its order)
CASES: dict[str, tuple[dict[str, str], list[tuple]]] = {
    "mind": (
        {
            "news.tsv": 'N1\tsports\tgolf\tA "quoted title\tText\thttp\t[]\t[]\nN2\tnews\tuk\tB\t\thttp\t[]\t[]\n',
            "behaviors.tsv": "1\tU1\t11/5/2019 9:05:12 AM\tN9\tN1-1 N2-0\n2\tU2\t11/15/2019 10:05:12 PM\t\tN2-0 N1-1\n",
        },
        [
            ("U1", "N1", "2019-11-05T09:05:12", "click"),
            ("U1", "N2", "2019-11-05T09:05:12", ""),
            ("U2", "N2", "2019-11-15T22:05:12", ""),
            ("U2", "N1", "2019-11-15T22:05:12", "click"),
        ],
    ),
    "otto": (
        {
            "train.jsonl": '{"session": 0, "events": [{"aid": 9, "ts": 1661724000000, "type": "clicks"}, '
            '{"aid": 8, "ts": 1661724001500, "type": "carts"}, {"aid": 8, "ts": 1661724002000, "type": "orders"}]}\n'
        },
        [
            (0, 9, "2022-08-28T22:00:00", "click"),
            (0, 8, "2022-08-28T22:00:01.500000", "cart"),
            (0, 8, "2022-08-28T22:00:02", "purchase"),
        ],
    ),
    "retailrocket": (
        {
            "events.csv": "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n"
            "1433221332118,1,addtocart,2,\n1433221332119,1,transaction,2,77\n"
        },
        [
            (257597, 355908, "2015-06-02T05:02:12.117000", "click"),
            (1, 2, "2015-06-02T05:02:12.118000", "cart"),
            (1, 2, "2015-06-02T05:02:12.119000", "purchase"),
        ],
    ),
    "diginetica": (
        {"train-item-views.csv": "sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n"},
        [(1, 81766, "2016-05-09T00:00:00", "click")],
    ),
    "yoochoose": (
        {
            "yoochoose-clicks.dat": "1,2014-04-07T10:51:09.277Z,214536502,0\n",
            "yoochoose-buys.dat": "1,2014-04-07T10:54:09.868Z,214536502,12462,1\n",
        },
        [
            (1, 214536502, "2014-04-07T10:51:09.277000", "click"),
            (1, 214536502, "2014-04-07T10:54:09.868000", "purchase"),
        ],
    ),
    "amazon": (
        {
            "Beauty.jsonl": '{"rating": 5.0, "title": "t", "asin": "B1", "parent_asin": "P1", "user_id": "AE", '
            '"timestamp": 1588687728923, "images": []}\n',
            "Beauty.csv": "user_id,parent_asin,rating,timestamp\nAF,P2,1.0,1588687728924\n",
            "meta_Beauty.jsonl": '{"parent_asin": "P1", "title": "Soap", "main_category": "All Beauty", "store": null, '
            '"average_rating": 4.5, "price": "from 5.00", "categories": ["a", "b"]}\n',
        },
        [
            ("AE", "P1", "2020-05-05T14:08:48.923000", "like"),
            ("AF", "P2", "2020-05-05T14:08:48.924000", "dislike"),
        ],
    ),
    "steam": (
        {
            "steam_reviews.json": "{u'username': u'Chaos \"X\"', u'product_id': u'725280', u'date': u'2017-12-17'}\n",
            "steam_games.json": "{u'id': u'725280', u'title': u'It\\'s', u'genres': [u'Indie'], u'price': 4.99, "
            "u'developer': u'D'}\n",
        },
        [('Chaos "X"', 725280, "2017-12-17T00:00:00", "play")],
    ),
    "yelp": (
        {
            "yelp_academic_dataset_review.json": '{"user_id": "u", "business_id": "b", "stars": 4.0, '
            '"date": "2016-03-09 16:44:43", "text": "x\\ny"}\n',
            "yelp_academic_dataset_business.json": '{"business_id": "b", "name": "N", "city": "C", "state": "S", '
            '"stars": 3.5, "review_count": 7, "categories": "Pizza, Bars"}\n',
        },
        [("u", "b", "2016-03-09T16:44:43", "like")],
    ),
    "lastfm1k": (
        {
            "userid-timestamp-artid-artname-traid-traname.tsv": "user_000001\t2009-05-04T23:08:57Z\tf1\t"
            'Deep "Dish\t\tFuck Me Im Famous\n'
        },
        [("user_000001", 'Deep "Dish|Fuck Me Im Famous', "2009-05-04T23:08:57", "play")],
    ),
    "netflix": (
        {"combined_data_1.txt": "1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n2:\n885013,1,2005-10-19\n"},
        [
            (1488844, 1, "2005-09-06T00:00:00", ""),
            (822109, 1, "2005-05-13T00:00:00", "like"),
            (885013, 2, "2005-10-19T00:00:00", "dislike"),
        ],
    ),
    "hm": (
        {
            "transactions_train.csv": "t_dat,customer_id,article_id,price,sales_channel_id\n"
            "2018-09-20,000058a1,0663713001,0.05,2\n",
            "articles.csv": "article_id,product_group_name,product_type_name,colour_group_name,department_name,"
            'detail_desc\n0663713001,Underwear,Bra,Black,"Lingerie","Push, up"\n',
        },
        [("000058a1", "0663713001", "2018-09-20T00:00:00", "purchase")],
    ),
    "foursquare": (
        {
            "dataset_TSMC2014_NYC.txt": "470\t49bbd6c0\t4bf58dd8\tCafé\t40.7\t-74.0\t-240\t"
            "Tue Apr 03 18:00:09 +0000 2012\n"
        },
        [(470, "49bbd6c0", "2012-04-03T18:00:09", "check_in")],
    ),
    "kuairec": (
        {
            "big_matrix.csv": "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
            "0,3649,13838,10867,2020-07-05 00:08:23.438,20200705,1593878903.438,1.27\n"
        },
        [(0, 3649, "2020-07-04T16:08:23.438000", "watched")],
    ),
    "open-bandit": (
        {
            "men.csv": ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,"
            "user_feature_2,user_feature_3\n0,2019-11-24 00:00:02.143+00:00,5,3,1,0.03,a,b,c,d\n"
        },
        [("a|b|c|d", 5, "2019-11-24T00:00:02.143000", "click")],
    ),
    "gorse": (
        {
            "feedback.jsonl": '{"FeedbackType": "star", "UserId": "7", "ItemId": "go:x", '
            '"Timestamp": "2020-02-24T00:00:00Z", "Comment": ""}\n',
            "items.jsonl": '{"ItemId": "go:x", "IsHidden": false, "Categories": ["go"], '
            '"Timestamp": "2019-01-01T00:00:00Z", "Labels": {}, "Comment": "c"}\n',
        },
        [(7, "go:x", "2020-02-24T00:00:00", "like")],
    ),
}


CASES |= {
    "metarank": (
        {
            "events.jsonl": '{"event": "item", "id": "a", "timestamp": "1599391467000", "item": "i1", "fields": '
            '[{"name": "title", "value": "Jeans"}, {"name": "price", "value": 25.5}, {"name": "genres", "value": '
            '["x", "y"]}]}\n{"event": "item", "id": "b", "timestamp": "1599391467000", "item": "i2", "fields": []}\n'
            '{"event": "user", "id": "c", "timestamp": "1599391467000", "user": "u1", "fields": '
            '[{"name": "age", "value": 30}]}\n'
            '{"event": "ranking", "id": "r1", "timestamp": "1599391468000", "user": "u1", "session": "s", '
            '"items": [{"id": "i2", "relevancy": 2.0}, {"id": "i1"}, {"id": "i3"}]}\n'
            '{"event": "interaction", "id": "d", "ranking": "r1", "timestamp": "1599391469000", "user": "u1", '
            '"session": "s", "type": "purchase", "item": "i1"}\n'
            '{"event": "ranking", "id": "r2", "timestamp": "1599391470000", "user": "u2", "session": "s", '
            '"items": [{"id": "i1"}]}\n',
        },
        [
            ("u1", "i2", "2020-09-06T11:24:28", ""),
            ("u1", "i1", "2020-09-06T11:24:28", "click,purchase"),
            ("u1", "i3", "2020-09-06T11:24:28", ""),
            ("u2", "i1", "2020-09-06T11:24:30", ""),
        ],
    ),
    "criteo": (
        {
            "criteo_attribution_dataset.tsv": "timestamp\tuid\tcampaign\tconversion\tconversion_timestamp\tclick\t"
            "cost\tcat1\tcat2\n0\t20073966\t22589171\t0\t-1\t0\t1e-05\t5824233\t9312274\n"
            "2\t24607497\t884761\t1\t1600000\t1\t2e-05\t30763035\t9312274\n",
        },
        [
            (20073966, 22589171, "2017-01-01T00:00:00", ""),
            (24607497, 884761, "2017-01-01T00:00:02", "click,purchase"),
        ],
    ),
    "avazu": (
        {
            "train": "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,"
            "device_id,device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21\n"
            "1000009418151094273,0,14102100,1005,0,1fbe01fe,f3845767,28905ebd,ecad2386,7801e8d9,07d7df22,a99f214a,"
            "ddd2926e,44956a24,1,2,15706,320,50,1722,0,35,-1,79\n"
            "10000169349117863715,1,14102123,1005,0,1fbe01fe,f3845767,28905ebd,ecad2386,7801e8d9,07d7df22,a99f214a,"
            "96809ac8,711ee120,1,0,15704,320,50,1722,0,35,100084,79\n",
        },
        [
            ("ddd2926e|44956a24", 15706, "2014-10-21T00:00:00", ""),
            ("96809ac8|711ee120", 15704, "2014-10-21T23:00:00", "click"),
        ],
    ),
}


def bring(name: str, tmp_path: Path, files: dict[str, str]) -> Dataset:
    folder = tmp_path / "from"
    folder.mkdir()
    mapping = read_mapping(CONFIGS / f"{name}.yaml")
    for file, content in files.items():
        (folder / file).write_text(content, encoding="latin-1" if name in ("foursquare", "book-crossing") else "utf-8")
    import_dataset(mapping, folder, tmp_path / "to")
    assert all(c.ok for c in validate_dataset(tmp_path / "to"))
    return Dataset.open(tmp_path / "to")


@pytest.mark.parametrize("name", CASES)
def test_a_shipped_mapping_reads_its_source(name, tmp_path):
    files, expected = CASES[name]
    data = bring(name, tmp_path, files)
    found = [
        (
            row["user_id"],
            row["item_id"],
            row["timestamp"].replace(tzinfo=None).isoformat(),
            ",".join(a for a in data.manifest.actions if row[a]),
        )
        for row in data.table("impressions").iter_rows(named=True)
    ]
    assert found == expected


def test_book_crossing_and_tenrec_have_an_order_but_no_time(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    books = bring(
        "book-crossing",
        tmp_path / "a",
        {
            "BX-Book-Ratings.csv": '"User-ID";"ISBN";"Book-Rating"\n"276725";"034545104X";"0"\n"2";"0155061224";"8"\n',
            "BX-Books.csv": '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher"\n'
            '"034545104X";"Caf\xe9 \\"A\\"; B";"M. X";"2002";"P"\n"0155061224";"R";"C";"DK Publishing";"Q"\n',
        },
    )
    assert books.items["text"].to_list() == ['Café "A"; B', "R"]
    assert books.items["Year-Of-Publication"].to_list() == [2002, None]
    assert books.table("impressions")["like"].to_list() == [False, True] and not books.manifest.has_time
    tenrec = bring(
        "tenrec",
        tmp_path / "b",
        {"QB-video.csv": "user_id,item_id,click,follow,like,share,video_category\n1,2,1,0,0,1,0\n1,3,0,0,0,0,1\n"},
    )
    assert tenrec.table("impressions").select("click", "share").rows() == [(True, True), (False, False)]


def test_metarank_keeps_the_fields_and_places_of_its_events(tmp_path):
    files, _ = CASES["metarank"]
    data = bring("metarank", tmp_path, files)
    assert data.items.select("item_id", "text", "price").rows() == [
        ("i1", "Jeans", 25.5), ("i2", None, None), ("i3", None, None),
    ]
    assert data.items["topics"][0].to_list() == ["x", "y"] and data.users["age"].to_list() == [30, None]
    assert data.table("impressions")["position"].to_list() == [0, 1, 2, 0]
    assert "events.jsonl: 4 rows are none of impressions (`where`)" in data.manifest.origin["notes"]


def test_criteo_keeps_what_was_known_of_a_banner(tmp_path):
    data = bring("criteo", tmp_path, CASES["criteo"][0])
    log = data.table("impressions")
    assert log["cat1"].to_list() == ["5824233", "30763035"] and log["cost"].to_list() == [1e-05, 2e-05]
