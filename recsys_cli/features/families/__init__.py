"""The toolkit's families of features, one file each; the order is that of the columns within a place."""

from recsys_cli.features.families.ages import Ages, Dates
from recsys_cli.features.families.attributes import Attributes
from recsys_cli.features.families.author_record import AuthorRecord
from recsys_cli.features.families.clock import Clock
from recsys_cli.features.families.followees import Followees
from recsys_cli.features.families.interests import Interests
from recsys_cli.features.families.lists import Lists
from recsys_cli.features.families.overlap import Overlap
from recsys_cli.features.families.prior_history import PriorHistory
from recsys_cli.features.families.prior_tastes import PriorTastes
from recsys_cli.features.families.rates import Rates
from recsys_cli.features.families.recency import Recency
from recsys_cli.features.families.request import OfRequest
from recsys_cli.features.families.same_value import SameValue
from recsys_cli.features.families.semantic_codes import SemanticCodes
from recsys_cli.features.families.sessions import Sessions
from recsys_cli.features.families.similarity import SimilarityOfRetrievers
from recsys_cli.features.families.social import Social
from recsys_cli.features.families.topic_match import TopicMatch
from recsys_cli.features.families.vectors import Vectors
from recsys_cli.features.families.windows import Windows
from recsys_cli.features.family import FeatureFamily

FAMILIES: tuple[FeatureFamily, ...] = (
    Rates(),
    Recency(),
    Sessions(),
    Interests(),
    Windows(),
    Ages(),
    Attributes(),
    Dates(),
    Lists(),
    Social(),
    TopicMatch(),
    AuthorRecord(),
    Followees(),
    Vectors(),
    SemanticCodes(),
    Overlap(),
    SameValue(),
    PriorTastes(),
    PriorHistory(),
    Clock(),
    OfRequest(),
    SimilarityOfRetrievers(),
)
