"""A group of commands of which one is meant where the line begins with a file."""

from __future__ import annotations

from pathlib import Path

from typer.core import TyperGroup


class DefaultCommand(TyperGroup):
    """`recsys GROUP FILE` is `recsys GROUP COMMAND FILE`; a subclass says which command."""

    by_default: str

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self.with_command(args))

    def with_command(self, args: list[str]) -> list[str]:
        """The arguments with the command that they leave out."""
        if not args or args[0] in self.commands or args[0] in ("--help", "-h"):
            return args
        # a misspelt command has no suffix, and is no file
        command = "." not in args[0] and not args[0].startswith("-") and not Path(args[0]).exists()
        return args if command else [self.by_default, *args]
