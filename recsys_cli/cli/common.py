"""What every command shares: global options, configuration, output formats, errors and exit codes.

A command is a function whose first parameter is an `Invocation`; `@command` adds the global options
after its own and registers it. Modules in this package import nothing heavy at the top: the whole of
`recsys --help` must stay under a quarter of a second.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from recsys_cli.cli.options import GLOBAL_OPTIONS
from recsys_cli.errors import RecsysError, Terminated, UsageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import Console

    from recsys_cli.cluster import Cluster, Here
    from recsys_cli.config import Resolved
    from recsys_cli.progress import Progress
    from recsys_cli.tracelog import TraceLog

Format = Literal["table", "json", "jsonl", "csv", "parquet"]
FORMATS: tuple[Format, ...] = ("table", "json", "jsonl", "csv", "parquet")
PROJECT_CONFIG = Path("recsys.yaml")
"""Read without `--config` where it is there; `recsys init` writes it."""
DEFAULT_CONFIG = Path("configs/default.yaml")
"""Read without `--config` where it is there and no `PROJECT_CONFIG` is."""
COMMANDS = (
    "init",
    "generate",
    "import_data",
    "data",
    "advise",
    "train",
    "train_safety",
    "retrain",
    "monitor",
    "check",
    "recommend",
    "recommend_users",
    "serve",
    "loadtest",
    "similar",
    "features",
    "explain",
    "evaluate",
    "compare",
    "tune",
    "ab_test",
    "interleave",
    "simulate",
    "off_policy",
    "benchmark",
    "safety",
    "config",
    "presets",
    "runs",
    "doctor",
    "docs",
)
"""Modules of this package, in the order in which `recsys --help` shows them."""

app = typer.Typer(
    name="recsys",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A For-You recommender from data to served slates: generate or import, train, recommend, evaluate, test.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Invocation:
    """One call of a command: its global options, and what follows from them."""

    def __init__(
        self, options: dict[str, Any], origins: dict[str, str], answers: bool = False, output: Path | None = None,
        arrived: list[str] | None = None,
    ):
        """answers: whether the command only answers requests, see `root_for`. output: where what --output names is
        written. arrived: what is to be said once that is at an address elsewhere; None where it is written here."""
        self.options, self._origins, self._answers = options, origins, answers
        self.format: Format = options["format"] or _format_from(output) or "table"
        self.output = output
        self.destination: str | None = options["output"]
        """what people are told that the result was written to"""
        self._arrived = arrived
        self.quiet: bool = options["quiet"]
        self.raw: bool = options["raw"]
        self.verbose: bool = options["verbose"]

    @property
    def config_file(self) -> Path | None:
        """The file that is read: the one given, else the project's, else the checkout's; None where there is none."""
        from recsys_cli.shipped import find

        if self.options["config"] is not None:
            return find(self.options["config"])
        return next((path for path in (PROJECT_CONFIG, DEFAULT_CONFIG) if path.is_file()), None)

    @cached_property
    def resolved(self) -> Resolved:
        """The configuration with the origin of each value."""
        from recsys_cli.cli.roots import root_for
        from recsys_cli.config import parse_override, put, resolve

        layers: dict[str, dict] = {"environment": {}, "flag": {}}
        for text in self.options["set"] or ():
            put(layers[self._origins["set"]], *parse_override(text))
        for option, keys in (
            ("data_dir", ["paths", "data"]),
            ("artifacts_dir", ["paths", "artifacts"]),
            ("seed", ["seed"]),
            ("threads", ["threads"]),
        ):
            value = self.options[option]
            if value is not None:
                put(layers[self._origins[option]], keys, str(value) if isinstance(value, Path) else value)
        if self.options["preset"] is not None:
            from recsys_cli.shipped import preset

            layers = {"preset": preset(self.options["preset"]), **layers}
        file, laid = self.config_file, list(layers.items())
        resolved = resolve(root_for(self._answers, file, laid), file=file, layers=laid)
        _limit_threads(resolved.config.threads)
        return resolved

    @property
    def config(self):
        """The checked `Settings`; raises ConfigError."""
        return self.resolved.config

    @cached_property
    def progress(self) -> Progress:
        from recsys_cli.progress import Progress, TerminalProgress

        return Progress() if self.quiet else TerminalProgress()

    @cached_property
    def trace(self) -> TraceLog:
        from recsys_cli.tracelog import TraceLog

        return TraceLog(Path(self.config.paths.artifacts) / "logs")

    def tasks(self, engine: str | None) -> AbstractContextManager[Here | Cluster]:
        """Where the work of the command is done: --engine, or else `engine` of the settings; see `tasks_of`."""
        from recsys_cli.cluster import tasks_of

        config = self.config
        return tasks_of(engine or config.engine, config.ray, config.threads, self.progress)

    def say(self, text: str) -> None:
        """One line on stderr, nothing with --quiet."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def wrote(self, what: str = "") -> None:
        """Say that the result, or `what` of it, went to --output; of an address elsewhere, once it is there."""
        line = f"wrote {what}{' to ' * bool(what)}{self.destination}"
        if self._arrived is None:
            self.say(line)
        elif not self.quiet:
            self._arrived.append(line)

    def emit(self, document: Any, render: Callable[[Console], None], rows: Iterable[dict] | None = None) -> None:
        """Write the result: `document` as JSON, `rows` as CSV, Parquet or JSON lines, or what `render` draws.

        document: anything orjson writes. rows: the table form, by default `document` if it is a list.
        Goes to --output (whole or not at all), else to stdout.
        """
        from recsys_cli.cli.output import result_bytes, show

        if self.format == "table" and self.output is None:
            show(render)
            return
        content = result_bytes(self.format, document, render, rows, raw=self.raw, terminal=self.output is None)
        if self.output is None:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            from recsys_cli.files import write_bytes

            write_bytes(self.output, content)
            self.wrote()


@contextlib.contextmanager
def _destination(output: str | None) -> Iterator[tuple[Path | None, list[str] | None]]:
    """The path here of what --output names, and for an address elsewhere a list of what is said once the result is
    there: it is put there when the command ends, also with an exit code of its own after its result was written."""
    if output is None:
        yield None, None
        return
    from recsys_cli.remote import is_remote, local_path, published

    if not is_remote(output):
        yield local_path(output), None
        return
    ended: BaseException | None = None
    arrived: list[str] = []
    with published(output) as path:
        try:
            yield path, arrived
        except (typer.Exit, RecsysError) as error:
            if not path.exists():
                raise
            ended = error
    for line in arrived:
        print(line, file=sys.stderr)
    if ended is not None:
        raise ended


def _format_from(output: Path | None) -> Format | None:
    known = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
    return known.get(output.suffix.lower()) if output is not None else None


def _limit_threads(threads: int) -> None:
    """Bind the thread pools of libraries that are not loaded yet."""
    if threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
            os.environ.setdefault(name, str(threads))


def command(group: typer.Typer, name: str, *, dashed_ids: bool = False, answers: bool = False) -> Callable:
    """Register a function as the command `name` of `group`, with the global options added.

    dashed_ids: an argument that begins with a hyphen and is no option is an id. answers: it only answers requests.
    The function's first parameter receives the Invocation; its other parameters are its own options.
    """

    def decorate(function: Callable) -> Callable:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        context = inspect.Parameter("typer_context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

        @functools.wraps(function)
        def wrapper(*, typer_context: typer.Context, **values):
            options = {p.name: values.pop(p.name) for p in GLOBAL_OPTIONS}
            if options["format"] not in (None, *FORMATS):
                raise UsageError(f"--format {options['format']}: not one of {', '.join(FORMATS)}")
            origins = {
                name: "environment" if typer_context.get_parameter_source(name).name == "ENVIRONMENT" else "flag"
                for name in options
            }
            global _verbose
            _verbose = options["verbose"]
            with _destination(options["output"]) as (output, arrived):
                return function(Invocation(options, origins, answers, output, arrived), **values)

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        wrapper.__signature__ = inspect.Signature([context, *parameters, *GLOBAL_OPTIONS])
        wrapper.__annotations__ = {p.name: p.annotation for p in wrapper.__signature__.parameters.values()}
        del wrapper.__wrapped__
        group.command(name, context_settings={"ignore_unknown_options": True} if dashed_ids else None)(wrapper)
        return function

    return decorate


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit", is_eager=True)] = False,
) -> None:
    if version:
        from recsys_cli import __version__

        print(f"recsys {__version__}")
        raise typer.Exit


_verbose = "--verbose" in sys.argv or "-v" in sys.argv


def _modules(arguments: list[str]) -> tuple[str, ...]:
    """Those of COMMANDS that a command line needs: its own where it begins with a command that a module is named
    after, else all. To make every command ready takes as long as many a command itself."""
    own = arguments[0].replace("-", "_") if arguments else ""
    return (own,) if own in COMMANDS else COMMANDS


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors are one or two lines on stderr."""
    for module in _modules(arguments):
        importlib.import_module(f"recsys_cli.cli.{module}")
    try:
        try:
            code = app(arguments, prog_name="recsys", standalone_mode=True)
        finally:
            sys.stdout.flush()
        return code or 0
    except RecsysError as error:
        return _fail(error, str(error), error.exit_code)
    except KeyboardInterrupt as error:
        return _fail(error, "interrupted; nothing half-written was left behind", 130)
    except BrokenPipeError:
        # the reader of our stdout went away (`| head`): not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Terminated as error:
        return _fail(error, "terminated; nothing half-written was left behind", 143)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        hint = "check the place, its rights and the room on the disk"
        return _fail(error, f"{where}{error.strerror or error}\n{hint}", 1)
    except MemoryError as error:
        return _fail(error, "out of memory", 1)
    except SystemExit as exit_:
        if exit_.code == 130:  # typer turns Ctrl-C into this
            return _fail(exit_, "interrupted; nothing half-written was left behind", 130)
        return exit_.code if isinstance(exit_.code, int) else (0 if exit_.code is None else 1)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return _fail(error, f"unexpected failure: {reason}\nrun again with --verbose for the traceback", 1)


def _fail(error: BaseException, text: str, code: int) -> int:
    if _verbose:
        import traceback

        traceback.print_exception(error)
    print(f"recsys: {_legible(text)}", file=sys.stderr)
    return code


LONGEST_WORD = 300
"""Characters without a space that a message shows whole."""


def _legible(text: str) -> str:
    """A message without control characters, and with what is too long for anybody to read shortened in its middle."""
    printable = "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda found: f"{found[0][:100]}…{found[0][-50:]}", printable)
