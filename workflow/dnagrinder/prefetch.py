"""Preparing the next piece of work in a thread while the current one runs on the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()


def prefetched(items: Iterable[T]) -> Iterator[T]:
    """The items in order; the next one is made in a worker thread while the caller works on the current one.

    Only the worker touches ``items``, so they need not be safe for threads. An error of theirs comes at its place.
    """
    source = iter(items)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as worker:
        waiting = worker.submit(next, source, _END)
        while (item := waiting.result()) is not _END:
            waiting = worker.submit(next, source, _END)
            yield item  # type: ignore[misc]
