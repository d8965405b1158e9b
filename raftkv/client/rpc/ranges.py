"""What a native client can do with ranges of keys.

An answer holds a part of a range; the parts of one page are asked for one after the other, at the revision of the
first, each with the time-out of a call.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from raftkv.client.deferred.iterating import Items, Pages
from raftkv.client.model import DeletedRange, FenceLike, Page
from raftkv.client.results import Consistency, Record, key_bytes, text_bytes
from raftkv.client.rpc import making, paging, telling
from raftkv.client.rpc.asking import Asking, read_arguments
from raftkv.client.spelling import positive, range_edges


class RangeCalls(Asking):
    """The methods about ranges."""

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

        def ask(token: str | None) -> Deferred[Page]:
            return self.page(
                prefix=prefix,
                start=start,
                end=end,
                limit=page_size,
                continue_from=token,
                reverse=reverse,
                revision=revision,
                consistency=consistency,
            )

        return paging.items(ask, lambda page: page.records)

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

        def ask(token: str | None) -> Deferred[Page]:
            return self.page(
                prefix=prefix,
                start=start,
                end=end,
                limit=page_size,
                continue_from=token,
                reverse=reverse,
                keys_only=True,
                revision=revision,
                consistency=consistency,
            )

        return paging.items(ask, lambda page: page.keys)

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

        def ask(token: str | None) -> Deferred[Page]:
            return self.page(
                prefix=prefix,
                start=start,
                end=end,
                limit=page_size,
                continue_from=token,
                reverse=reverse,
                keys_only=keys_only,
                delimiter=delimiter,
                revision=revision,
                consistency=consistency,
            )

        return paging.pages(ask)

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
        :param continue_from: ``next`` of the page before, of this client or of a ``KVClient``. All else must be as it
            was, but for ``limit``.
        """
        try:
            if limit is not None:
                positive("limit", limit)
            arguments: dict[str, Any] = {
                **_place(prefix, start, end, revision),
                "reverse": reverse,
                "keys_only": keys_only,
                "delimiter": None if delimiter is None else key_bytes(delimiter, "delimiter"),
                **read_arguments(consistency, max_stale),
            }
            token = None if continue_from is None else text_bytes(continue_from, "continue_from").decode("utf-8")
        except Exception:
            return fail(Failure())
        return Deferred.fromCoroutine(self._whole_page(arguments, limit, token))

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
        return self._read(
            "range",
            lambda: {
                **_place(prefix, start, end, revision),
                "count_only": True,
                **read_arguments(consistency, max_stale),
            },
            telling.count,
        )

    def delete_prefix(self, prefix: str | bytes, *, lock: FenceLike | None = None) -> Deferred[DeletedRange]:
        """Delete every key that begins so, in one revision; an empty prefix is every key.

        :param lock: a lock without which it is refused.
        """
        return self._write(lambda: making.delete_range(prefix, None, None, lock), telling.deleted_range)

    def delete_range(
        self, *, start: str | bytes | None = None, end: str | bytes | None = None, lock: FenceLike | None = None
    ) -> Deferred[DeletedRange]:
        """Delete the keys from ``start`` up to, and without, ``end``, in one revision; one of them may be missing.

        :param lock: a lock without which it is refused.
        """
        return self._write(lambda: making.delete_range(None, start, end, lock), telling.deleted_range)

    async def _whole_page(self, arguments: dict[str, Any], limit: int | None, token: str | None) -> Page:
        """Ask for the parts of a page, until it is full or there are no more."""
        parts: list[Page] = []
        left = limit
        while True:
            part = await self._read("range", partial(dict, arguments, limit=left, **{"continue": token}), telling.page)
            parts.append(part)
            token = part.next
            if left is not None:
                left -= len(part.records) + len(part.folders)
            if token is None or (left is not None and left <= 0):
                return part if len(parts) == 1 else _joined(parts)


def _place(
    prefix: str | bytes | None, start: str | bytes | None, end: str | bytes | None, revision: int | None
) -> dict[str, Any]:
    """Return the arguments that say which range, and when.

    :raises BadRequest: they make no sense.
    """
    edges = range_edges(prefix, start, end)
    return {**edges, "revision": None if revision is None else positive("revision", revision)}


def _joined(parts: list[Page]) -> Page:
    return Page(
        records=tuple(record for part in parts for record in part.records),
        folders=tuple(folder for part in parts for folder in part.folders),
        count=parts[0].count,
        revision=parts[0].revision,
        next=parts[-1].next,
    )
