"""Garbage collection for work that makes many small objects, few of them in cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLD = 200_000


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Look for cycles seldom: by Python's own threshold (700) that takes a sixth of a dbt run's or a push's time."""
    before = gc.get_threshold()
    gc.set_threshold(_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
