"""The console that results are drawn on: what data say is text, never a picture and never a fault of the drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


_CONTROLS = {
    **dict.fromkeys([*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)], "\ufffd"),
    **dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"),
    0x09: " ",
}
"""What moves a cursor, colours a line or turns the direction of a text, where it stands in data."""


def console(**options: Any) -> Console:
    """A console on which `:100:` stays what it is, and where brackets that are no markup are printed as they stand.

    Our own markup is read; data within it must go through `rich.markup.escape`, so that `[bold]` in a name is shown.
    """
    from rich.console import Console
    from rich.errors import MarkupError
    from rich.text import Text

    class DataConsole(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            text = text.translate(_CONTROLS)
            try:
                return super().render_str(text, **how)
            except MarkupError:
                return super().render_str(text, **(how | {"markup": False}))

    return DataConsole(emoji=False, **options)
