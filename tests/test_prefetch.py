"""Work is prepared ahead, in order, by one thread, and errors keep their place."""

import threading

import pytest

from dnagrinder.prefetch import prefetched


def test_order_and_items_stay():
    assert list(prefetched(range(100))) == list(range(100))
    assert list(prefetched([])) == []
    assert list(prefetched([None, None])) == [None, None]


def test_the_next_item_is_made_while_the_current_one_is_used():
    made = {n: threading.Event() for n in range(3)}

    def items():
        for event in made.values():
            event.set()
            yield threading.current_thread().name

    names = set()
    for n, name in enumerate(prefetched(items())):
        names.add(name)
        if n + 1 in made:
            assert made[n + 1].wait(timeout=10)  # without prefetching it would be made after this step only
    assert len(names) == 1
    assert names != {threading.current_thread().name}


def test_an_error_comes_at_its_place():
    def items():
        yield 1
        raise KeyError("no such contig")

    received = []
    with pytest.raises(KeyError, match="no such contig"):
        received.extend(prefetched(items()))
    assert received == [1]


def test_a_consumer_may_stop_early():
    iterator = prefetched(range(1000))
    assert next(iterator) == 0
    iterator.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]
