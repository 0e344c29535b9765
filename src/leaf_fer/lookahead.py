"""Work that is begun before its result is needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """Yield items after drawing ``count`` more, whose drawing begins work that takes a while.

    Example:
        >>> items = iter("abcd")
        >>> next(ahead(items, 2)), next(items)
        ('a', 'd')
    """
    drawn: deque[T] = deque()
    for item in items:
        drawn.append(item)
        if len(drawn) > count:
            yield drawn.popleft()
    yield from drawn
