"""What a client can do with ranges of keys; see :mod:`raftkv.client.deferred.keys`."""

# Made from raftkv/client/aio/ranges.py by python -m tests.client.flavours; change it there.

from __future__ import annotations

from twisted.internet.defer import Deferred

from raftkv.client import operations
from raftkv.client.deferred.iterating import Items, Pages
from raftkv.client.model import DeletedRange, FenceLike, Page
from raftkv.client.programs import paging
from raftkv.client.programs.engine import Engine
from raftkv.client.results import Consistency, Record


class RangeCalls:
    """The methods of a client about ranges."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def range(
        self,
        *,
        prefix: str | bytes | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        reverse: bool = False,
        revision: int | None = None,
        consistency: Consistency = "linearizable",
        page_size: int = 500,
    ) -> Items[Record]:
        """Iterate over the records of a range in the order of their keys, all as they were at one moment.

        :param prefix: every key that begins so; or ``start`` and ``end`` (``start <= key < end``, either may be
            missing). Without any of the three: every key.
        :param reverse: from the last key to the first.
        :param revision: as it was at this revision.
        :param page_size: how many are asked for at once.
        :raises raftkv.errors.Compacted: (while iterating) the moment of the first page is no longer kept.
        """
        return Items(
            self._engine,
            paging.items_of(
                self._engine,
                lambda page: operations.page(
                    prefix=prefix,
                    start=start,
                    end=end,
                    limit=page_size,
                    continue_from=page,
                    reverse=reverse,
                    revision=revision,
                    consistency=consistency,
                ),
                lambda page: page.records,
            ),
        )

    def keys(
        self,
        *,
        prefix: str | bytes | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        reverse: bool = False,
        revision: int | None = None,
        consistency: Consistency = "linearizable",
        page_size: int = 1000,
    ) -> Items[str]:
        """Iterate over the keys of a range, without their values. The parameters are those of :meth:`range`."""
        return Items(
            self._engine,
            paging.items_of(
                self._engine,
                lambda page: operations.page(
                    prefix=prefix,
                    start=start,
                    end=end,
                    limit=page_size,
                    continue_from=page,
                    reverse=reverse,
                    keys_only=True,
                    revision=revision,
                    consistency=consistency,
                ),
                lambda page: page.keys,
            ),
        )

    def pages(
        self,
        *,
        prefix: str | bytes | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        reverse: bool = False,
        keys_only: bool = False,
        delimiter: str | None = None,
        revision: int | None = None,
        consistency: Consistency = "linearizable",
        page_size: int = 500,
    ) -> Pages:
        """Iterate over a range a page at a time, with its folders and its count.

        :param keys_only: without values.
        :param delimiter: such as ``"/"``: keys that have it behind the prefix are told as folders, one level deep.
        """
        return Pages(
            self._engine,
            paging.Pages(
                self._engine,
                lambda page: operations.page(
                    prefix=prefix,
                    start=start,
                    end=end,
                    limit=page_size,
                    continue_from=page,
                    reverse=reverse,
                    keys_only=keys_only,
                    delimiter=delimiter,
                    revision=revision,
                    consistency=consistency,
                ),
            ),
        )

    def page(
        self,
        *,
        prefix: str | bytes | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        limit: int | None = None,
        continue_from: str | None = None,
        reverse: bool = False,
        keys_only: bool = False,
        delimiter: str | None = None,
        revision: int | None = None,
        consistency: Consistency = "linearizable",
        max_stale: float | None = None,
    ) -> Deferred[Page]:
        """Read one page of a range, for those who keep the place themselves, such as between two requests of a user.

        :param limit: at most so many keys and folders; ``None``: all there are.
        :param continue_from: ``next`` of the page before. All else must be as it was, but for ``limit``.
        """
        return Deferred.fromCoroutine(
            self._engine.call(
                lambda: operations.page(
                    prefix=prefix,
                    start=start,
                    end=end,
                    limit=limit,
                    continue_from=continue_from,
                    reverse=reverse,
                    keys_only=keys_only,
                    delimiter=delimiter,
                    revision=revision,
                    consistency=consistency,
                    max_stale=max_stale,
                )
            )
        )

    def count(
        self,
        *,
        prefix: str | bytes | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        revision: int | None = None,
        consistency: Consistency = "linearizable",
        max_stale: float | None = None,
    ) -> Deferred[int]:
        """Count the keys of a range. The parameters are those of :meth:`range`."""
        return Deferred.fromCoroutine(
            self._engine.call(
                lambda: operations.count(
                    prefix=prefix, start=start, end=end, revision=revision, consistency=consistency, max_stale=max_stale
                )
            )
        )

    def delete_prefix(self, prefix: str | bytes, *, lock: FenceLike | None = None) -> Deferred[DeletedRange]:
        """Delete every key that begins so, in one revision; an empty prefix is every key.

        :param lock: a lock without which it is refused.
        """
        return Deferred.fromCoroutine(self._engine.call(lambda: operations.delete_range(prefix=prefix, lock=lock)))

    def delete_range(
        self, *, start: str | bytes | None = None, end: str | bytes | None = None, lock: FenceLike | None = None
    ) -> Deferred[DeletedRange]:
        """Delete the keys from ``start`` up to, and without, ``end``, in one revision; one of them may be missing.

        :param lock: a lock without which it is refused.
        """
        return Deferred.fromCoroutine(
            self._engine.call(lambda: operations.delete_range(start=start, end=end, lock=lock))
        )
