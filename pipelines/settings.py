"""Settings from a YAML file and from the command line, checked against a pydantic model.

`pipelines/configs/*.yaml` come along: profiles of `generate`, `train_*` of `train`, and `ablate_*`
of `ablate`.
"""

import difflib
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from sdg.errors import UserError
from sdg.yaml12 import load_yaml

CONFIGS_DIR = Path(__file__).parent / "configs"
PREFIXES = ("train_", "ablate_")
_PLAIN = (bool, int, float, str)
Settings = TypeVar("Settings", bound=BaseModel)


def config_names(prefix: str = "") -> list[str]:
    """Names of the files that come along: those with the prefix, or those of `generate`."""
    names = sorted(path.stem for path in CONFIGS_DIR.glob("*.yaml"))
    return [name for name in names if name.startswith(prefix or PREFIXES) == bool(prefix)]


def find_config(config: str, prefix: str = "") -> Path:
    """The file of a name in `pipelines/configs`, or of a path.

    Raises:
        UserError: there is none.
    """
    named = CONFIGS_DIR / f"{config}.yaml"
    path = named if "/" not in config and named.is_file() else Path(config)
    if not path.is_file():
        names = ", ".join(config_names(prefix))
        raise UserError(f"CONFIG={config}: no such file; those that come along: {names}")
    return path


def checked_name(name: str) -> str:
    """A run's or training's name, which is its folder's; it cannot lead out of the one above."""
    if not re.fullmatch(r"[\w][\w.,+-]{0,99}", name):
        raise UserError(f"RUN={name}: a name is letters, digits, '.', '_', '+' and '-' only")
    return name


def parse_sets(sets: Sequence[str]) -> dict[str, Any]:
    """ "key=value" strings of --set, values in YAML, as dotted key -> value."""
    changes = {}
    for item in sets:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise UserError(f"--set {item}: must be key=value, such as --set corpus.text=body")
        changes[key.strip()] = _parse_yaml(value, f"--set {item}")
    return changes


def read_settings(model: type[Settings], path: Path, changes: Mapping[str, Any]) -> Settings:
    """A file's settings with changes by dotted key on top.

    Raises:
        UserError: the file (or flag), the key, what is wrong and what is allowed there.
    """
    try:
        values = _parse_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be 'key: value' lines")
    return check_settings(model, values, str(path), changes)


def check_settings(
    model: type[Settings], values: dict[str, Any], where: str, changes: Mapping[str, Any]
) -> Settings:
    """Settings with changes by dotted key on top.

    Raises:
        UserError: `where` they are from (or the flag), the key, and what is wrong.
    """
    for key, value in changes.items():
        _put(values, key, value)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error, model, where, changes)) from None


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return load_yaml(text)
    except RecursionError:
        raise UserError(f"{where}: too deeply nested") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark and "\n" in text else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise UserError(f"{where}{line}: {problem}") from None


def _put(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {dotted}: '{parent}' is a value, not a section")
        values = inner
    values[last] = value


def _explain(
    error: ValidationError, model: type[BaseModel], source: str, changes: Mapping[str, Any]
) -> str:
    # What is there and wrong tells more than what is missing.
    first = min(error.errors(), key=lambda found: found["type"] == "missing")
    keys, allowed = _walk(model, first["loc"])
    key = ".".join(keys)
    where = _where(key, source, changes)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], allowed, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        return f"{where}: unknown key; {hint}allowed: {', '.join(allowed) or 'none'}"
    if first["type"] == "value_error":  # says what it needs to; what was given may be a secret
        return f"{where}: {first['msg'].removeprefix('Value error, ')}"
    given = f" (given: {first['input']!r})" if isinstance(first["input"], _PLAIN) else ""
    return f"{where}: {first['msg']}{given}"


def _where(key: str, source: str, changes: Mapping[str, Any]) -> str:
    """The flag that said it, or the file, and the key."""
    within = (c for c in changes if f"{key}.".startswith(f"{c}."))
    flag = next(within, None) or next((c for c in changes if key and c.startswith(f"{key}.")), None)
    if flag and flag.startswith(f"{key}."):  # its first part is unknown already
        return f"--set {flag}: {key}"
    if flag is None:
        return f"{source}: {key}" if key else source
    return f"--set {flag}" if flag == key else f"--set {flag}: {key}"


def _walk(model: type[BaseModel], loc: Sequence[int | str]) -> tuple[list[str], list[str]]:
    """The keys on an error's way without the tags of unions, which are no keys of the file; and
    the keys allowed where the last one stands."""
    here, standing = [model], [model]
    keys: list[str] = []
    for part in loc:
        tagged = [m for m in here if len(here) > 1 and m.model_fields["name"].default == part]
        if tagged:
            here = tagged
            continue
        keys.append(str(part))
        if isinstance(part, str):  # a number is a place in a list
            standing = here
            fields = [m.model_fields[part] for m in here if part in m.model_fields]
            if fields:  # else it is a key that the user named, of values of the same models
                here = [inner for field in fields for inner in _models(field.annotation)]
    return keys, [name for m in standing[:1] for name in m.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, types.UnionType, tuple, dict):
        return [model for inner in get_args(annotation) for model in _models(inner)]
    return []
