"""Names that columns, files and events have in the field, and what they stand for."""

from __future__ import annotations

import re

ROLES: dict[str, str] = {
    "user": "user userid uid u usr visitor visitorid customer customerid cust custid member memberid account accountid "
    "reviewer reviewerid viewer viewerid person personid profileid listener username client clientid buyer buyerid "
    "consumer consumerid hashedid deviceid cookie cookieid anonymousid useruuid userhash who",
    "session": "session sessionid sid visit visitid",
    "item": "item itemid iid i movie movieid film filmid product productid prod prodid asin parentasin isbn video "
    "videoid article articleid news newsid song songid track trackid traid book bookid post postid ad "
    "adid content contentid sku offer offerid business businessid game gameid appid recipe recipeid aid "
    "page pageid url venue venueid poi poiid restaurant restaurantid anime animeid goods goodsid creative "
    "creativeid campaign campaignid show showid podcast podcastid photo photoid clip clipid doc docid "
    "document documentid tweet tweetid job jobid listing listingid hotel hotelid place placeid property "
    "propertyid course courseid pin pinid object objectid entity entityid",
    "artist": "artist artistid artid artmbid artistmbid artname artistname",
    "time": "timestamp time ts t date datetime createdat eventtime eventtimestamp unixtime when reviewdate day "
    "unixreviewtime ratedat reviewtime occurredat clicktime viewtime utctime timedat tdat eventdate timems timesec "
    "datetimeutc created servertime loggedat",
    "rating": "rating ratings star stars score overall rate bookrating userrating vote grade reviewscore",
    "count": "plays playcount count listens listencount weight frequency timesplayed nplays hours hoursplayed",
    "event": "event eventtype action actiontype type behavior behaviortype behaviour interaction interactiontype "
    "feedbacktype verb eventname activity",
    "dwell": "dwell dwellseconds dwelltime timespent watchtime playtime playduration viewtimesec dwellms watchseconds "
    "watchms playtimems readtime durationwatched seconds",
    "position": "position pos rank slot place",
    "surface": "surface tab placement slotname pagetype channeltype",
    "device": "device devicetype platform os",
    "request": "request requestid impressionid impression recommendationid recid slateid",
    "propensity": "propensity propensityscore",
    "author": "author authorid creator creatorid bookauthor brand publisher channel channelid seller sellerid "
    "developer director store maker owner ownerid uploader uploaderid artist artistid artistname",
    "text": "title name headline text itemname booktitle movietitle productname productname caption subject body "
    "description prodname trackname songname content",
    "topics": "genres genre tags tag categories category topics topic subjects keywords",
    "created": "createdat created published publishedat releasedate releasedat uploaddate postedat pubdate signupdate "
    "joined joindate registered registeredat uploadeddate",
    "language": "language lang",
    "media_type": "mediatype format kind contenttype",
    "duration": "duration durationseconds durationms length lengthseconds videoduration runtime",
    "follower": "follower followerid from fromid src source sourceid trustor truster useridfrom fan fanid follows",
    "followee": "followee followeeid followed followedid to toid dst target targetid friend friendid trustee "
    "useridto followingid following idol",
}
_BY_NAME: dict[str, list[str]] = {}
for _role, _names in ROLES.items():
    for _name in _names.split():
        _BY_NAME.setdefault(_name, []).append(_role)

ACTIONS: dict[str, str] = {
    **dict.fromkeys(
        "click clicks clicked isclick pv detail pageview view viewed views read visit open".split(), "click"
    ),
    **dict.fromkeys(
        "like liked likes islike favorite favorites favorited favourite fav star starred upvote thumbsup love".split(),
        "like",
    ),
    **dict.fromkeys("cart carts addtocart atc basket addtobasket incart".split(), "cart"),
    **dict.fromkeys(
        "purchase purchased buy bought order orders ordered transaction checkout conversion convert sale "
        "pay paid isbuy".split(),
        "purchase",
    ),
    **dict.fromkeys("share shared shares forward forwarded isforward".split(), "share"),
    **dict.fromkeys("repost reposts retweet retweeted rt".split(), "repost"),
    **dict.fromkeys("reply replied replies comment commented comments iscomment".split(), "reply"),
    **dict.fromkeys("follow followed isfollow subscribe subscribed".split(), "follow"),
    **dict.fromkeys("play played plays listen listened stream watch watched".split(), "play"),
    **dict.fromkeys("save saved bookmark bookmarked wishlist addtowishlist".split(), "save"),
    **dict.fromkeys("longview islongview".split(), "long_view"),
    **dict.fromkeys("profilevisit isprofileenter profileclick".split(), "profile_click"),
    **dict.fromkeys("hide hidden dismiss dismissed ishate hate notinterested".split(), "hide"),
    **dict.fromkeys("dislike disliked thumbsdown downvote".split(), "dislike"),
    **dict.fromkeys("mute muted".split(), "mute"),
    **dict.fromkeys("block blocked".split(), "block"),
    **dict.fromkeys("report reported abuse".split(), "report"),
    **dict.fromkeys("skip skipped".split(), "skip"),
    **dict.fromkeys("removefromcart unlike unfollow uncart return returned refund refunded".split(), "undone"),
}
"""Plain name of an event or of a column of truth values → the action that it is."""
NEGATIVE = ("hide", "dislike", "mute", "block", "report", "skip", "undone")
SHOWN = ("impression", "impressions", "show", "shown", "exposure", "expose", "exposed", "served", "display", "imp")
"""Events that say that an item was shown, and no more."""
PRIVATE = ("password", "passwordhash", "email", "mail", "phone", "ip", "ipaddress", "address", "firstname", "lastname")
FILES = {
    "users": "user users customer customers member members visitor visitors profile profiles people demographics",
    "items": "item items movie movies product products book books article articles news video videos song songs track "
    "tracks artist artists catalog catalogue meta metadata businesses business content posts games anime",
    "follows": "follow follows follower followers following friend friends trust social edges network graph relations",
    "log": "log logs rating ratings event events click clicks interaction interactions transaction transactions orders "
    "purchases behavior behaviors behaviors review reviews plays history impressions views feedback train",
}


def plain(name: str) -> str:
    """A name in lower case without anything between its words: `User-ID`, `user_id` and `userId` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def roles_of(name: str) -> list[str]:
    """What columns of this name stand for, the likeliest first; [] where that is not known."""
    last = name.rpartition(".")[2]
    return _BY_NAME.get(plain(last), [])


def place_of(name: str, role: str) -> int:
    """How early a name stands among those of a role: the earlier, the likelier it is meant so."""
    names = ROLES[role].split()
    name = plain(name.rpartition(".")[2])
    return names.index(name) if name in names else len(names)


def known_names(names: list[str]) -> int:
    """How many of the names are known."""
    return sum(bool(roles_of(n)) or plain(n) in ACTIONS for n in names)


def table_of(file: str) -> str | None:
    """The table that the name of a file speaks of."""
    words = re.findall(r"[a-z]+", file.lower().partition(".")[0] + " " + file.lower().partition(".")[2])
    for table, known in FILES.items():
        if any(word in known.split() for word in words):
            return table
    return None


def action_name(value: str) -> str:
    """The name of an action for an event or a column: a word of the house, or its own in lower case."""
    known = ACTIONS.get(plain(value))
    if known and known != "undone":
        return known
    return re.sub(r"\W+", "_", value.strip().lower()).strip("_") or "event"
