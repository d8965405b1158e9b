"""Pages over the RPC port, in the iterators that the HTTP client on Twisted gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from raftkv.client.deferred.iterating import Items, Pages
from raftkv.client.model import Page
from raftkv.client.programs import paging

T = TypeVar("T")


class _Pager:
    """Asks for pages, in place of the engine of an HTTP client, of which the iterators need nothing else."""

    async def call(self, make: Callable[[], Awaitable[Any]]) -> Any:
        return await make()


_PAGER: Any = _Pager()


def items(ask: Callable[[str | None], Awaitable[Any]], pick: Callable[[Any], Iterable[T]]) -> Items[T]:
    """Iterate over the items of pages.

    :param ask: asks for a page, of what the page before said comes next (``None`` for the first one).
    :param pick: gives the items of one page.
    """
    make: Any = ask  # an engine would carry out what this makes; ours awaits it
    return Items(_PAGER, paging.items_of(_PAGER, make, pick))


def pages(ask: Callable[[str | None], Awaitable[Page]]) -> Pages:
    """Iterate over pages; see :func:`items`."""
    make: Any = ask
    return Pages(_PAGER, paging.Pages(_PAGER, make))
