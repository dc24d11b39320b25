"""Values read from YAML, which may repeat one another by aliases until they are more than a machine can hold."""

from __future__ import annotations

from typing import Any

MOST_VALUES = 100_000  # of a settings file, each alias counted with all that it stands for


def is_too_large(value: Any) -> bool:
    """Whether a value holds more than MOST_VALUES mappings, lists and scalars ("billion laughs")."""
    waiting, seen = [value], 0
    while waiting and seen <= MOST_VALUES:
        part = waiting.pop()
        seen += 1
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return seen > MOST_VALUES
