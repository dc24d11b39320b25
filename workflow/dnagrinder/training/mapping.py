"""Dataclasses from the mappings of a run file; every problem is collected, none raised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from dnagrinder.errors import ConfigError, DnaGrinderError

T = TypeVar("T")


def built(kind: Callable[..., T], values: Any, where: str, problems: list[str]) -> T | None:
    """An instance of the dataclass ``kind``; None, and what is wrong in ``problems``, where the mapping gives none.

    Lists become tuples, those within lists too.
    """
    if not isinstance(values, dict):
        problems.append(f"{where}: expected a mapping, found {values!r}")
        return None
    unknown = sorted(str(key) for key in set(values) - {field.name for field in fields(kind)})  # type: ignore[arg-type]
    if unknown:
        problems.append(f"{where}: unknown key(s) {', '.join(unknown)}")
        return None
    try:
        return kind(**{key: _frozen(value) for key, value in values.items()})
    except ConfigError as error:
        problems += [f"{where}: {problem}" for problem in error.problems or [str(error)]]
    except (TypeError, AttributeError, DnaGrinderError) as error:
        problems.append(f"{where}: {error}")
    return None


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
