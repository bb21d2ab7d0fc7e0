"""What is never shown: values that may be passwords, whatever key they stand under."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "(hidden)"
_NAMES = re.compile(r"password|passwd|secret|token|credential|api_?key|private|jaas|(^|[._])key$", re.I)
_PLACEHOLDER = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")


def hidden(key: str, value: Any) -> Any:
    """A value that may be shown: `${NAME}` stays, what else stands under such a key, or in an address, does not."""
    if isinstance(value, dict):
        return {name: hidden(f"{key}.{name}", part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(key, part) for part in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    if _PLACEHOLDER.fullmatch(text):
        return text
    if _NAMES.search(key):
        return HIDDEN
    return _IN_ADDRESS.sub(f"{HIDDEN}@", text)
