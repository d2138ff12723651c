"""Strict configuration: frozen dataclasses <-> YAML <-> `key=value` on the command line; an unknown key is an error."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import yaml
from pydantic import TypeAdapter, ValidationError

from mouselift.errors import InputError

Config = TypeVar("Config")
_Section = dict[str, Any]
BASE_KEY = "base"  # a YAML file may name another one, relative to itself, and say only what differs


def load_config(kind: type[Config], path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Build a configuration from its defaults, a YAML file and overrides, in this order.

    Args:
        kind: A frozen dataclass, possibly nested.
        path: YAML file; its `base:` is read first.
        overrides: `section.key=value`, the value in YAML.

    Raises:
        InputError: An unreadable file, an unknown key, or a value of the wrong type or range.
    """
    values = {} if path is None else _read_yaml(path)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise InputError(f"expected key=value, found {override!r}")
        try:
            value: Any = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError(f"expected key=value with a value in YAML, found {override!r}") from None
        _set(values, key.split("."), value, override)
    return from_dict(kind, values, "the configuration" if path is None else str(path))


def from_dict(kind: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """Build a configuration from plain values, strictly; `where` names their source in messages."""
    unknown = _unknown_keys(kind, values)
    if unknown:
        raise InputError(f"{where}: unknown key {', '.join(unknown)}")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        refused = first.get("ctx", {}).get("error")
        if isinstance(refused, InputError):  # the configuration's own check
            raise InputError(f"{where}: {place}{': ' if place else ''}{refused}") from None
        raise InputError(f"{where}: {place or 'the configuration'}: {first['msg']}, found {first['input']!r}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """Plain values of a configuration, ready for YAML or JSON."""
    if not is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"expected an instance of a dataclass, found {type(config).__name__}")
    return asdict(config)


def to_yaml(config: Any) -> str:
    """The configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def _read_yaml(path: Path) -> _Section:
    try:
        values: Any = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"expected a configuration file, found none at {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: expected YAML, found {str(error).splitlines()[0]}") from None
    if values is not None and not isinstance(values, dict):
        raise InputError(f"{path}: expected `key: value` lines, found a {type(values).__name__}")
    section = cast(_Section, values or {})
    base = section.pop(BASE_KEY, None)
    return section if base is None else _merged(_read_yaml(path.parent / str(base)), section)


def _merged(base: _Section, top: _Section) -> _Section:
    result = dict(base)
    for key, value in top.items():
        below = result.get(key)
        both_sections = isinstance(below, dict) and isinstance(value, dict)
        result[key] = _merged(cast(_Section, below), cast(_Section, value)) if both_sections else value
    return result


def _set(values: _Section, keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        below = values.setdefault(key, {})
        if not isinstance(below, dict):
            raise InputError(f"{override!r}: {key} is a value, not a section")
        values = cast(_Section, below)
    values[keys[-1]] = value


def _unknown_keys(kind: Any, values: Mapping[Any, Any], prefix: str = "") -> list[str]:
    if not is_dataclass(kind):
        return []
    fields = {name: field.type for name, field in kind.__dataclass_fields__.items()}
    unknown = [prefix + str(key) for key in values if key not in fields]
    for key, value in values.items():
        if isinstance(value, Mapping):
            unknown += _unknown_keys(fields.get(key), cast(Mapping[Any, Any], value), f"{prefix}{key}.")
        elif isinstance(value, list):
            inner = [part for part in get_args(fields.get(key)) if is_dataclass(part)]  # of tuple[Part, ...]
            for index, part in enumerate(cast(list[Any], value)):
                if inner and isinstance(part, Mapping):
                    unknown += _unknown_keys(inner[0], cast(Mapping[Any, Any], part), f"{prefix}{key}.{index}.")
    return unknown
