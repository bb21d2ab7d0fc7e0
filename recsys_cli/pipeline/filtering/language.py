"""Languages that a user reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filtering.user_lists import hashed, listed, user_list
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Filter, StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle

ITEMS = "item.language"


class LanguageConfig(StageConfig):
    """Leaves out items in a language that the user does not read. Items of unknown language, and users whose languages
    are unknown, are left alone."""

    kind: Literal["language"] = "language"
    column: str = "languages"
    """List of the users with the languages that they read, or a category of theirs with the one language."""


class Language(Filter):
    """Keeps items in the languages that a user reads; who states none is kept from nothing."""

    config_type = LanguageConfig
    config: LanguageConfig
    _list = False
    _of_names = _of_codes = np.zeros(0, np.int32)

    def prepare(self, bundle: Bundle) -> str | None:
        catalogue, column = bundle.catalogue, self.config.column
        if "language" not in catalogue.item_codes:
            return "needs items with a language"
        names = catalogue.names[ITEMS]
        if column in catalogue.user_columns.lists:
            self._list, self._of_names = True, np.append(hashed(names), np.int32(-1))
            return None
        if column not in catalogue.user_codes:
            return f"needs users with a list or a category {column!r}"
        place = {name: code for code, name in enumerate(names)}
        theirs = catalogue.names[f"user.{column}"]
        # a language in which nobody writes is read by those who read it all the same
        self._of_codes = np.array([place.get(name, len(names)) for name in theirs] + [-1], np.int32)
        return None

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        catalogue = query.state.catalogue
        language = np.where(candidates.filled, catalogue.item_codes["language"][candidates.items], -1)
        if self._list:
            lengths = user_list(query, self.config.column).lengths
            told = (query.users >= 0) & (lengths[np.maximum(query.users, 0)] > 0)
            reads = listed(query, self.config.column, self._of_names[language])
        else:
            code = np.where(query.users >= 0, catalogue.user_codes[self.config.column][query.users], -1)
            own = self._of_codes[code]
            told, reads = own >= 0, language == own[:, None]
        return reads | (language < 0) | ~told[:, None]
