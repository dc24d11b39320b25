"""Dataclasses from the mappings of a run file; every problem is collected, none raised."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import Any, TypeVar

from dnagrinder.errors import ConfigError, DnaGrinderError

T = TypeVar("T")
WANTED = {"int": "a whole number", "float": "a number", "bool": "true or false"}  # what values of these fields are


def built(kind: Callable[..., T], values: Any, where: str, problems: list[str]) -> T | None:
    """An instance of the dataclass ``kind``; None, and what is wrong in ``problems``, where the mapping gives none.

    Lists become tuples, those within lists too. Fields of the types of WANTED take nothing else; of texts a number such as
    ``1e-6``, which YAML does not take for one.
    """
    if not isinstance(values, dict):
        problems.append(f"{where}: expected a mapping, found {values!r}")
        return None
    types = {field.name: str(field.type) for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in set(values) - set(types))
    if unknown:
        problems.append(f"{where}: unknown key(s) {', '.join(unknown)}")
        return None
    try:
        return kind(**{key: _fitting(key, value, types[key]) for key, value in values.items()})
    except ConfigError as error:
        problems += [f"{where}: {problem}" for problem in error.problems or [str(error)]]
    except (TypeError, ValueError, AttributeError, DnaGrinderError) as error:
        problems.append(f"{where}: {error}")
    return None


def _fitting(name: str, value: Any, kind: str) -> Any:
    """The value of a field of type ``kind``, frozen. Raises ConfigError where it is of another type."""
    if kind == "float" and isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    fits = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
        "bool": isinstance(value, bool),
    }
    if not fits.get(kind, True):
        raise ConfigError(f"{name} is {WANTED[kind]}, found {value!r}")
    return _frozen(value)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
