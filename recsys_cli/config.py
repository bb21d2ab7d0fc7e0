"""Configuration: YAML checked by pydantic, layered from flag, environment, file and default.

This module is the machinery; each component's own settings class stands beside the component, and
`settings.py` says where each hangs in the file.
"""

from __future__ import annotations

import copy
import functools
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from recsys_cli.bounds import LONGEST, out_of_bounds
from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.files import is_name
from recsys_cli.yaml_reader import MAX_DEPTH, line_of, parse_yaml, read_yaml, short

__all__ = ["Name", "Resolved", "Section", "parse_override", "read_yaml", "resolve", "validate"]


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values never change after loading.

    Numbers are finite and bounded, and `true` and `false` are no numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, defer_build=True)
    renamed: ClassVar[dict[str, str]] = {}
    """Name that a key once had → the name it has, to be told where the old one is refused."""

    @model_validator(mode="before")
    @classmethod
    def _sound_numbers(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        changed = {}
        for name in given.keys() & _numeric_fields(cls):
            value = _sound(given[name], name)
            if value is not given[name]:
                changed[name] = value
        return {**given, **changed} if changed else given


class _Truth:
    """Stands for true or false where a number belongs, which pydantic would take for 1 or 0: it refuses this."""

    def __init__(self, value: bool):
        self.value = value

    def __repr__(self) -> str:
        return "true" if self.value else "false"


@functools.cache
def _numeric_fields(model: type[BaseModel]) -> frozenset[str]:
    """Fields of numbers, or of lists and dictionaries of them, that neither truth values nor sections stand in."""

    def kinds(annotation: Any) -> set:
        below = typing.get_args(annotation)
        if typing.get_origin(annotation) is typing.Literal:
            return {type(value) for value in below} - {str}
        if typing.get_origin(annotation) is typing.Annotated:
            return kinds(below[0])
        if typing.get_origin(annotation) is dict:
            return kinds(below[1]) if below else {dict}
        return set().union(*map(kinds, below)) if below else {annotation}

    fields = ((name, kinds(field.annotation)) for name, field in model.model_fields.items())
    return frozenset(name for name, found in fields if found & {int, float} and found <= {int, float, type(None), ...})


def _number(text: str) -> float | None:
    """The number that a text spells, as pydantic would take it; None where it spells none."""
    try:
        return float(text)
    except ValueError:
        return None


def _beyond(name: str, told: str) -> PydanticCustomError:
    return PydanticCustomError("out_of_bounds", "{told}", {"told": told, "below": name.split(".")})


def holds_secret(told: str) -> PydanticCustomError:
    """What a validator raises where a value may be a secret: it is refused without being shown."""
    return PydanticCustomError("secret", "{told}", {"told": told})


def _sound(value: Any, name: str) -> Any:
    """A value with its truth values replaced by what pydantic refuses; an error where a number is out of bounds."""
    if isinstance(value, bool):
        return _Truth(value)
    if isinstance(value, dict):
        below = {key: _sound(part, f"{name}.{key}") for key, part in value.items()}
        return below if any(below[key] is not part for key, part in value.items()) else value
    if isinstance(value, list | tuple):
        if len(value) > LONGEST:
            raise _beyond(name, f"a list of {len(value):,}; it holds {LONGEST:,} at most")
        parts = [_sound(part, name) for part in value]
        return parts if any(new is not old for new, old in zip(parts, value, strict=True)) else value
    number = _number(value) if isinstance(value, str) else value
    if isinstance(number, int | float) and number not in (float("inf"), float("-inf")):
        reason = out_of_bounds(name.split(".")[0], number)
        if reason is not None:
            raise _beyond(name, f"{short(value)} {reason}")
    return value


def _component(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"{name[:80]!r} cannot be a name: letters, digits, _, - and . make one, and no . begins it")
    return name


Name = Annotated[str, AfterValidator(_component)]
"""A name that a folder or a file gets too, so that it must be one part of a path."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Resolved:
    """A configuration with the origin of every value: "flag", "environment", "file" or "default"."""

    config: Any
    origins: dict[str, str]


def parse_override(text: str) -> tuple[list[str], Any]:
    """`a.b=value` → (["a", "b"], value as YAML reads it); raises ConfigError where there is no `=`."""
    key, equals, value = text.partition("=")
    if not equals or not all(part for part in key.split(".")):
        raise ConfigError(
            f"--set {short(text)} is not of the form a.b=value", "for example --set ranking.heavy.epochs=3"
        )
    keys = key.strip().split(".")
    if len(keys) > MAX_DEPTH:
        raise ConfigError(f"--set {short(key)}: more than {MAX_DEPTH} keys within one another")
    return keys, parse_yaml(value, f"--set {key[:80]}: {short(value)}")


def put(tree: dict, keys: list[str], value) -> None:
    """Set `tree[a][b] = value`, making the mappings on the way."""
    for key in keys[:-1]:
        below = tree.get(key)
        if not isinstance(below, dict):
            below = tree[key] = {}
        tree = below
    tree[keys[-1]] = value


def merge(base: dict, above: dict) -> dict:
    """`above` laid over `base`, mappings merged key by key.

    A mapping whose `kind` differs from the one below replaces it whole: its other keys would not fit.
    """
    out = copy.copy(base)
    for key, value in above.items():
        below = out.get(key)
        same_kind = (
            isinstance(value, dict)
            and isinstance(below, dict)
            and ("kind" not in value or "kind" not in below or value["kind"] == below["kind"])
        )
        out[key] = merge(below, value) if same_kind else copy.deepcopy(value)
    return out


def leaves(tree: dict, prefix: str = "") -> dict[str, Any]:
    """Values of nested mappings by their dotted keys; a mapping without keys is a value."""
    out = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            out.update(leaves(value, f"{path}."))
        else:
            out[path] = value
    return out


def resolve(
    model: type[M], *, file: str | Path | None = None, layers: list[tuple[str, dict]] = (), defaults: dict | None = None
) -> Resolved:
    """Lay the file and then each (origin, mapping) of `layers` over the defaults and check the result.

    Raises ConfigError naming the file, line and key of the first problem, and the nearest known key.
    """
    defaults = model().model_dump(mode="json") if defaults is None else defaults
    tree, origins = defaults, dict.fromkeys(leaves(defaults), "default")
    path = None if file is None else Path(file)
    stack = [("file", read_yaml(path))] if path is not None else []
    for origin, layer in [*stack, *layers]:
        tree = merge(tree, layer)
        origins.update(dict.fromkeys(leaves(layer), origin))
    config = validate(model, tree, path, layers)
    known = leaves(config.model_dump(mode="json"))
    return Resolved(config, {key: origins.get(key, "default") for key in known})


def validate(model: type[M], tree: dict, path: Path | None = None, layers: list[tuple[str, dict]] = ()) -> M:
    """Check a mapping against a model; raises ConfigError as `resolve` does.

    path: the file that the mapping comes from. layers: what was laid over it, as (origin, mapping).
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(*_explain(error, model, tree, path, layers)) from None


OVERRIDES = {"flag": "--set", "environment": "RECSYS_SET"}
"""Where a value of a layer was given, as the person wrote it."""


def _place(written: tuple, path: Path | None, layers: list[tuple[str, dict]]) -> str:
    """Where a key was written, as the beginning of a message: the topmost layer that holds it, else the file."""
    for origin, layer in reversed(layers):
        if written and origin in OVERRIDES and _holds(layer, written):
            return f"{OVERRIDES[origin]}: "
    if path is None:
        return ""
    line = line_of(path, written)
    return f"{path}{f' line {line}' if line else ''}: "


def _holds(layer: dict, keys: tuple) -> bool:
    """Whether a mapping says anything of a key path: names it, or gives something above it as a whole."""
    for key in keys:
        if isinstance(layer, list) and isinstance(key, int) and key < len(layer):
            layer = layer[key]
        elif isinstance(layer, dict):
            if key not in layer:
                return False
            layer = layer[key]
        else:
            return True
    return True


def _explain(
    error: ValidationError, model: type[BaseModel], tree: dict, path: Path | None, layers: list[tuple[str, dict]] = ()
) -> tuple[str, str | None]:
    problems = error.errors()
    # an unknown key is the likeliest root of the others
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    # what a whole section is checked for names the key below it
    keys = (*problem["loc"], *problem.get("ctx", {}).get("below", ()))
    named = keys[-1:] == ("[key]",)  # what is wrong is a key, not what stands under it
    written = _as_written(tree, keys[:-1] if named else keys)
    where = _place(written, path, layers)
    written = written[:-1] if named else written
    dotted = ".".join(str(k)[:100] for k in written)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        models = _models_at(model, keys[:-1])
        known = [field.alias or name for m in models for name, field in m.model_fields.items()]
        renamed = {old: new for m in models for old, new in getattr(m, "renamed", {}).items()}
        if now := renamed.get(str(keys[-1])):
            return f"{where}key {dotted!r} is now named {now!r}{more}", f"write {now!r} instead"
        hint = did_you_mean(str(keys[-1])[:100], known, f"known keys here: {', '.join(sorted(known)) or 'none'}")
        return f"{where}unknown key {dotted!r}{more}", hint
    if problem["type"] in ("union_tag_invalid", "literal_error", "enum"):
        given = problem["input"].get("kind") if isinstance(problem["input"], dict) else problem["input"]
        context = problem["ctx"]
        expected = str(context.get("expected_tags") or context.get("expected"))
        tail = ".kind" if problem["type"] == "union_tag_invalid" else ""
        return (
            f"{where}{dotted}{tail}: {short(given)} is none of {expected}{more}",
            did_you_mean(str(given)[:100], [t.strip(" '") for t in expected.replace(" or ", ",").split(",")], None),
        )
    given = problem["input"]
    silent = isinstance(given, dict) or named or problem["type"] == "secret"
    shown = "" if silent else f" (given: {short(given)})"
    return (
        f"{where}{dotted or 'the file'}: {problem['msg'].removeprefix('Value error, ')}{shown}{more}",
        "run `recsys config schema` for what each key takes",
    )


def _as_written(tree: dict, keys: tuple) -> tuple:
    """A path of pydantic's without the kinds of unions, which it names and a file does not."""
    out, node = [], tree
    for place, key in enumerate(keys):
        last = place == len(keys) - 1
        if isinstance(node, dict) and key not in node and (not last or node.get("kind") == key):
            continue
        if isinstance(node, list) and isinstance(key, str):
            continue
        out.append(key)
        known = key in node if isinstance(node, dict) else isinstance(node, list) and key < len(node)
        node = node[key] if known else None
    return tuple(out)


def _models_at(model, keys: tuple) -> list[type[BaseModel]]:
    """Models whose fields may stand below a key path, through dictionaries, lists and unions."""
    import types
    import typing

    candidates = [model]
    for key in keys:
        below = []
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                field = candidate.model_fields.get(str(key))
                if field is not None:
                    below.append(field.annotation)
                elif "kind" in candidate.model_fields and candidate.model_fields["kind"].default == key:
                    below.append(candidate)
                continue
            origin = typing.get_origin(candidate)
            if origin is dict:
                below.append(typing.get_args(candidate)[1])
            elif origin in (list, tuple):
                below.append(typing.get_args(candidate)[0])
        candidates = []
        while below:
            candidate = below.pop()
            origin = typing.get_origin(candidate)
            if origin is typing.Annotated:
                below.append(typing.get_args(candidate)[0])
            elif origin in (typing.Union, types.UnionType):
                below.extend(typing.get_args(candidate))
            else:
                candidates.append(candidate)
    return [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Field → the sentence that stands under it in the source.

    Read on demand: pydantic's own reading of docstrings costs every start of the program.
    """
    import ast
    import inspect
    import itertools
    import textwrap

    docs: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not (isinstance(cls, type) and issubclass(cls, BaseModel)) or cls is BaseModel:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
        for first, second in itertools.pairwise(body):
            if (
                isinstance(first, ast.AnnAssign)
                and isinstance(second, ast.Expr)
                and isinstance(second.value, ast.Constant)
                and isinstance(second.value.value, str)
            ):
                docs[first.target.id] = inspect.cleandoc(second.value.value)
    return docs


def json_schema(model: type[BaseModel]) -> dict:
    """JSON Schema of a configuration, each field described by its docstring (for editors)."""
    schema = model.model_json_schema()
    classes = {model.__name__: model}

    def collect(cls: type[BaseModel]) -> None:
        for sub in cls.__subclasses__():
            classes.setdefault(sub.__name__, sub)
            collect(sub)

    collect(BaseModel)
    for name, definition in [(model.__name__, schema), *schema.get("$defs", {}).items()]:
        if name in classes:
            for field, text in field_docs(classes[name]).items():
                known = classes[name].model_fields.get(field)  # class variables have a sentence too
                field = known.alias or field if known else field
                if field in definition.get("properties", {}):
                    definition["properties"][field]["description"] = text
    return schema


def commented_yaml(config: BaseModel, indent: int = 0) -> str:
    """A configuration as YAML in which every key is explained by its field's docstring."""
    import textwrap

    pad = " " * indent
    docs, lines = field_docs(type(config)), []
    for name in type(config).model_fields:
        value = getattr(config, name)
        text = docs.get(name, "") if not isinstance(value, BaseModel) else (docs.get(name) or _summary(type(value)))
        if indent == 0 and lines:
            lines.append("")
        lines += textwrap.wrap(" ".join(text.split()), 110, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# ")
        lines.append(_yaml_entry(name, value, indent))
    return "\n".join(lines) + ("\n" if indent == 0 else "")


def _summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().split("\n\n")[0]


def _yaml_entry(name: str, value: Any, indent: int) -> str:
    import yaml

    pad = " " * indent
    if isinstance(value, BaseModel):
        return f"{pad}{name}:\n{commented_yaml(value, indent + 2)}"
    if isinstance(value, dict) and any(isinstance(v, BaseModel | dict) for v in value.values()):
        below = []
        for key, part in value.items():
            about = " ".join(_summary(type(part)).split()) if isinstance(part, BaseModel) else ""
            below.append((f"{pad}  # {about}\n" if about else "") + _yaml_entry(key, part, indent + 2))
        return f"{pad}{name}:\n" + "\n".join(below)

    def plain(v: Any) -> Any:
        if isinstance(v, BaseModel):
            return v.model_dump(mode="json")
        if isinstance(v, dict):
            return {k: plain(x) for k, x in v.items()}
        return [plain(x) for x in v] if isinstance(v, list | tuple) else v

    value = plain(value)
    if isinstance(value, dict | list):
        flow = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=100, allow_unicode=True)
        text = f"{name}: {flow}"
    else:
        text = yaml.safe_dump({name: value}, allow_unicode=True)
    first, *rest = text.rstrip("\n").split("\n")
    return "\n".join([f"{pad}{first}", *(f"{pad}  {line.strip()}" for line in rest)])
