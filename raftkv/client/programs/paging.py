"""What does not fit into one answer: page after page, and the items of the pages one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

from raftkv.client.operations import Operation
from raftkv.client.programs.engine import Engine


class _HasNext(Protocol):
    @property
    def next(self) -> str | None: ...


P = TypeVar("P", bound=_HasNext)
T = TypeVar("T")


class Pages(Generic[P]):
    """Asks for one page after the other, each when it is wanted.

    :param make: makes the operation of a page, of what the page before said comes next (``None`` for the first one).
    """

    def __init__(self, engine: Engine, make: Callable[[str | None], Operation[P]]) -> None:
        self._engine = engine
        self._make = make
        self._next: str | None = None
        self._is_over = False

    async def next(self) -> P:
        """Return the next page.

        :raises StopAsyncIteration: there is none.
        :raises raftkv.errors.Compacted: the revision of the first page is no longer kept.
        """
        if self._is_over:
            raise StopAsyncIteration
        page: P = await self._engine.call(lambda: self._make(self._next))
        self._next = page.next
        self._is_over = page.next is None
        return page


class Items(Generic[T]):
    """The items of pages, one after the other.

    :param items: gives those of one page.
    """

    def __init__(self, pages: Pages[Any], items: Callable[[Any], Iterable[T]]) -> None:
        self._pages = pages
        self._items = items
        self._left: deque[T] = deque()

    async def next(self) -> T:
        """Return the next item.

        :raises StopAsyncIteration: there is none.
        :raises raftkv.errors.Compacted: the revision of the first page is no longer kept.
        """
        while not self._left:
            self._left.extend(self._items(await self._pages.next()))
        return self._left.popleft()


def items_of(
    engine: Engine, make: Callable[[str | None], Operation[Any]], items: Callable[[Any], Iterable[T]]
) -> Items[T]:
    """Iterate over the items of pages; see :class:`Pages` and :class:`Items`."""
    return Items(Pages(engine, make), items)
