"""Watches by what they want to be told: a change finds those that it concerns, and costs nothing for all the others.

Most watches are of one key or of a prefix, and are found in dictionaries: one look for the key, and one for each length
that some prefix has. Other ranges stand in a table of their own. Watches of the same keys and the same kinds of change
are one group, which is found, and moved from one index to another, as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from raftkv.kvstore import prefix_end
from raftkv.server.watching.ranges import RangeTable
from raftkv.watches import WatchRequest

if TYPE_CHECKING:
    from raftkv.server.watching.watch import Watch

PUTS: Final = 1
DELETES: Final = 2
_KEY: Final = 0
_PREFIX: Final = 1
_RANGE: Final = 2


class Span(NamedTuple):
    """What a watch is to be told of.

    :ivar table: whether it is one key, a prefix or any other range.
    :ivar kinds: of change, as bits.
    """

    table: int
    start: bytes
    end: bytes
    kinds: int

    @classmethod
    def of(cls, request: WatchRequest) -> Span:
        """Return what a request asks for."""
        start, end = request.start, request.end
        kinds = PUTS * request.puts + DELETES * request.deletes
        if end == start + b"\0":
            return cls(_KEY, start, end, kinds)
        return cls(_PREFIX if end == (prefix_end(start) or b"") else _RANGE, start, end, kinds)


class Group:
    """Watches that are told the same.

    :ivar watches: in the order in which they came, so that they are told in that order.
    """

    __slots__ = ("span", "watches")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.watches: dict[Watch, None] = {}


_Groups = dict[int, Group]  # by kinds of change


class WatchIndex:
    """Some watches, each at most once.

    :ivar count: how many.
    """

    __slots__ = ("_by_key", "_by_prefix", "_by_range", "_lengths", "count")

    def __init__(self) -> None:
        self.count = 0
        self._by_key: dict[bytes, _Groups] = {}
        self._by_prefix: dict[bytes, _Groups] = {}
        self._lengths: dict[int, int] = {}  # of the prefixes, in order: how many have it
        self._by_range: RangeTable[_Groups] = RangeTable()

    def __iter__(self) -> Iterator[Watch]:
        for group in self.groups():
            yield from group.watches

    def groups(self) -> Iterator[Group]:
        """Yield all groups."""
        for table in (self._by_key, self._by_prefix, self._by_range):
            for groups in table.values():
                yield from groups.values()

    def add(self, watch: Watch) -> None:
        """Take a watch in."""
        span = watch.span
        groups = self._find(span)
        group = groups.get(span.kinds) if groups is not None else None
        if group is None:
            group = Group(span)
            self._insert(group, groups)
        group.watches[watch] = None
        self.count += 1

    def discard(self, watch: Watch) -> None:
        """Let go of a watch that is here; nothing happens if it is not."""
        span = watch.span
        groups = self._find(span)
        group = groups.get(span.kinds) if groups is not None else None
        if group is None or watch not in group.watches:
            return
        del group.watches[watch]
        self.count -= 1
        if not group.watches:
            self._remove(span)

    def take(self, group: Group) -> None:
        """Let go of a group, as a whole."""
        self.count -= len(group.watches)
        self._remove(group.span)

    def merge(self, group: Group) -> None:
        """Take a group in, as a whole; it must not be used any more, for it may have become a part of this."""
        groups = self._find(group.span)
        present = groups.get(group.span.kinds) if groups is not None else None
        self.count += len(group.watches)
        if present is None:
            self._insert(group, groups)
        else:
            present.watches.update(group.watches)

    def concerned(self, key: bytes, *, is_delete: bool) -> list[Group]:
        """Return the groups that are to be told of a change."""
        kind = DELETES if is_delete else PUTS
        found = []
        groups = self._by_key.get(key)
        if groups is not None:
            found = [group for group in groups.values() if group.span.kinds & kind]
        by_prefix, size = self._by_prefix, len(key)
        for length in self._lengths:
            if length > size:
                break
            groups = by_prefix.get(key[:length])
            if groups is not None:
                found += [group for group in groups.values() if group.span.kinds & kind]
        if self._by_range:
            for groups in self._by_range.holding(key):
                found += [group for group in groups.values() if group.span.kinds & kind]
        return found

    # -- the tables --------------------------------------------------------------------------------------------------

    def _find(self, span: Span) -> _Groups | None:
        if span.table == _KEY:
            return self._by_key.get(span.start)
        if span.table == _PREFIX:
            return self._by_prefix.get(span.start)
        return self._by_range.get((span.start, span.end))

    def _insert(self, group: Group, groups: _Groups | None) -> None:
        span = group.span
        if groups is not None:
            groups[span.kinds] = group
        elif span.table == _KEY:
            self._by_key[span.start] = {span.kinds: group}
        elif span.table == _PREFIX:
            self._by_prefix[span.start] = {span.kinds: group}
            self._count_length(len(span.start), 1)
        else:
            self._by_range.set((span.start, span.end), {span.kinds: group})

    def _remove(self, span: Span) -> None:
        groups = self._find(span)
        if groups is None:
            raise KeyError(span)
        del groups[span.kinds]
        if groups:
            return
        if span.table == _KEY:
            del self._by_key[span.start]
        elif span.table == _PREFIX:
            del self._by_prefix[span.start]
            self._count_length(len(span.start), -1)
        else:
            self._by_range.pop((span.start, span.end))

    def _count_length(self, length: int, change: int) -> None:
        count = self._lengths.get(length, 0) + change
        if not count:
            del self._lengths[length]
        elif length in self._lengths:
            self._lengths[length] = count
        else:
            self._lengths = dict(sorted({**self._lengths, length: count}.items()))
