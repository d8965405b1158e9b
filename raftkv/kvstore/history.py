"""What every revision changed, from the compact revision on: for watches, and for reads of the past.

The history is one row of slots, one for each revision: the key, what it has held since, and what it held before. What a
key held at some revision is found by going back from its record of today, from one previous to the next; so a write
pays for three references and nothing else, and a key that is never written again costs nothing more.

Compacting makes the row shorter at its old end. The slots that fall off go to a heap of rubbish, which :meth:`tidy`
frees a little at a time, whenever there is time: nothing that anybody can see, and no digest, depends on it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from raftkv.kvstore.digest import Record
from raftkv.kvstore.views import Change

#: What a key held before: a record, the revision at which it was deleted, or ``None`` where nothing is known of it.
Previous = Record | int | None

#: One key of one revision: the key, its record since then (``None``: it was deleted), and what it was before.
Slot = tuple[bytes, Record | None, Previous]

SEGMENT_REVISIONS: Final = 1024  #: after so many slots a new list is begun, so that dropping a list is no pause
SEGMENT_BYTES: Final = 1024 * 1024  #: likewise for their entries, so that the size of what is kept is known well enough
_COMMAND_BYTES: Final = 50  # of a command without its value, about
_STRIDE: Final = 3  # a segment is flat: three elements for each revision


class History:
    """The slots from :attr:`first_revision` up to the present one.

    A revision with any other number of changes than one has a list of slots in place of its key.

    :ivar note: adds the slot of the next revision: ``note((key, record, previous))``. It changes with every segment.
    :ivar size_bytes: of the log entries that the slots came from, about.
    """

    __slots__ = ("_firsts", "_rubbish", "_segments", "_shared", "_sizes", "_tail", "_tail_bytes", "_tail_first", "note")

    def __init__(self) -> None:
        self._segments: deque[list[Any]] = deque()
        self._firsts: list[int] = []  # the first revision of each segment
        self._sizes: deque[int] = deque()
        self._tail: list[Any] = []
        self._tail_first = 1
        self._tail_bytes = 0
        self._rubbish: deque[tuple[int, list[Any]]] = deque()  # with the first revision of each
        self._shared: set[int] = set()  # ids of segments that a snapshot reads (and so keeps alive)
        self.note: Callable[[Any], None] = self._tail.extend

    @property
    def first_revision(self) -> int:
        """The oldest revision whose changes are kept; that of the next change where there are none."""
        return self._firsts[0] if self._firsts else self._tail_first

    @property
    def next_revision(self) -> int:
        """The revision whose slot is noted next."""
        return self._tail_first + len(self._tail) // _STRIDE

    @property
    def size_bytes(self) -> int:
        """About how large the entries were that the slots came from."""
        return sum(self._sizes) + self._tail_bytes

    def first_within(self, size_bytes: int) -> int:
        """Return the oldest revision from which on the history is about ``size_bytes`` large, or less."""
        first, left = self._tail_first, size_bytes - self._tail_bytes
        for start, size in zip(reversed(self._firsts), reversed(self._sizes), strict=True):
            left -= size
            if left < 0:
                break
            first = start
        return first

    def note_all(self, slots: list[Slot]) -> None:
        """Add the next revision, with however many changes; the list is taken over."""
        self.note(slots[0] if len(slots) == 1 else (slots, None, None))

    def grow(self, size_bytes: int) -> None:
        """Say that an entry has been applied; call it behind each one."""
        self._tail_bytes += size_bytes
        if len(self._tail) >= SEGMENT_REVISIONS * _STRIDE or self._tail_bytes >= SEGMENT_BYTES:
            if not self._tail:
                return
            self._segments.append(self._tail)
            self._firsts.append(self._tail_first)
            self._sizes.append(self._tail_bytes)
            self._begin_tail(self.next_revision, [])

    def _begin_tail(self, first_revision: int, tail: list[Any]) -> None:
        self._tail_first = first_revision
        self._tail = tail
        self._tail_bytes = 0
        self.note = tail.extend

    @classmethod
    def beginning_at(cls, revision: int) -> History:
        """Return a history of one revision, which changed nothing."""
        history = cls()
        history._begin_tail(revision, [])
        history.note_all([])
        return history

    # -- reading -------------------------------------------------------------------------------------------------

    def previous(self, revision: int, key: bytes) -> Previous:
        """Return what a key held before it was changed at a revision.

        :raises LookupError: it was not changed there, or that is no longer kept.
        """
        segment, place = self._place(revision)
        noted = segment[place]
        if type(noted) is not list:
            previous: Previous = segment[place + 2]
            return previous
        for changed, _, before in noted:
            if changed == key:
                return before  # type: ignore[no-any-return]  # the flat list has no types
        raise LookupError(f"revision {revision} did not change {key!r}")

    def changes(self, revision: int, start: int = 0, limit: int | None = None) -> list[Change]:
        """Return what a revision that is kept has changed, in order.

        :param start: how many changes to leave out.
        :param limit: how many to return at most; ``None`` for all.
        """
        segment, place = self._place(revision)
        noted = segment[place]
        slots = noted if type(noted) is list else [segment[place : place + _STRIDE]]
        if start or (limit is not None and limit < len(slots)):
            slots = slots[start : None if limit is None else start + limit]
        return [Change(key, record, before if type(before) is tuple else None) for key, record, before in slots]

    def changed_keys(self, revision: int) -> Iterator[bytes]:
        """Yield the keys changed behind a revision that is kept; one that was changed twice comes twice."""
        for number in range(revision + 1, self.next_revision):
            segment, place = self._place(number)
            noted = segment[place]
            if type(noted) is list:
                yield from (slot[0] for slot in noted)
            else:
                yield noted

    def _place(self, revision: int) -> tuple[list[Any], int]:
        first, segment = self._tail_first, self._tail
        if revision < first:
            i = bisect_right(self._firsts, revision) - 1
            if i < 0:
                raise LookupError(f"revision {revision} is no longer kept")
            first, segment = self._firsts[i], self._segments[i]
        return segment, (revision - first) * _STRIDE

    # -- letting go ----------------------------------------------------------------------------------------------

    def compact(self, revision: int) -> None:
        """Let go of the slots below a revision, which must not be above the next one."""
        while self._segments and (self._firsts[1] if len(self._firsts) > 1 else self._tail_first) <= revision:
            self._rubbish.append((self._firsts.pop(0), self._segments.popleft()))
            self._sizes.popleft()
        if self._segments:
            first, segment = self._firsts[0], self._segments[0]
            cut = (revision - first) * _STRIDE
            if cut > 0:
                # Parts are new lists in all their depth where a snapshot reads the whole: they will be taken apart.
                copied = _copied if id(segment) in self._shared else list
                self._rubbish.append((first, copied(segment[:cut])))
                self._sizes[0] = self._sizes[0] * (len(segment) - cut) // len(segment)
                self._segments[0] = copied(segment[cut:])
                self._firsts[0] = revision
        elif revision > self._tail_first:
            first, tail = self._tail_first, self._tail
            cut = (revision - first) * _STRIDE
            left_bytes = self._tail_bytes * (len(tail) - cut) // len(tail)
            self._rubbish.append((first, tail[:cut]))
            self._begin_tail(revision, tail[cut:])
            self._tail_bytes = left_bytes

    def tidy(self, limit: int, ended: Callable[[bytes, int], None]) -> bool:
        """Free about ``limit`` slots of those that were let go, and return whether more are left.

        :param ended: called for each of them that deleted a key, with the key and the revision.
        """
        while self._rubbish and limit > 0:
            first, segment = self._rubbish[0]
            if id(segment) in self._shared:
                segment = _copied(segment)
                self._rubbish[0] = (first, segment)
            if not segment:
                self._rubbish.popleft()
                continue
            last = first + len(segment) // _STRIDE - 1
            noted = segment[-_STRIDE]
            if type(noted) is not list:
                _, record, _ = segment[-_STRIDE:]
                del segment[-_STRIDE:]
                limit -= 1
                if record is None:
                    ended(noted, last)
                continue
            for key, record, _ in noted[-limit:]:
                if record is None:
                    ended(key, last)
            count = len(noted)
            del noted[-limit:]
            limit -= count - len(noted) + 1
            if not noted:
                del segment[-_STRIDE:]
        return bool(self._rubbish)

    def discard(self, limit: int) -> bool:
        """Free about ``limit`` slots of a history that is no longer used; return whether more are left."""
        if self._tail or self._segments:
            self.compact(self.next_revision)
        return self.tidy(limit, lambda key, revision: None)

    # -- snapshots -----------------------------------------------------------------------------------------------

    def capture(self) -> Iterator[tuple[int, list[Slot]]]:
        """Yield all revisions as they are kept now with their slots, the newest first, however late they are drawn.

        :meth:`end_capture` must follow, whether all have been drawn or not.
        """
        segments = [*zip(self._firsts, self._segments, strict=True), (self._tail_first, _copied(self._tail))]
        self._shared = {id(segment) for segment in self._segments}
        return _draw(segments)

    def end_capture(self) -> None:
        """Say that what was captured is no longer read."""
        self._shared = set()

    @classmethod
    def restored(cls, segments: deque[tuple[list[Any], int]], next_revision: int) -> History:
        """Return a history made of segments.

        :param segments: the oldest first, each :data:`SEGMENT_REVISIONS` revisions long but the first; with each the
            bytes of its values. Taken over.
        :param next_revision: the revision behind the last one.
        """
        history = cls()
        first = next_revision
        for segment, size_bytes in reversed(segments):
            if segment:
                revisions = len(segment) // _STRIDE
                first -= revisions
                history._segments.appendleft(segment)
                history._sizes.appendleft(size_bytes + revisions * _COMMAND_BYTES)
                history._firsts.append(first)
        history._firsts.reverse()
        history._begin_tail(next_revision, [])
        return history


def _copied(segment: list[Any]) -> list[Any]:
    """Return a segment that has nothing in common with this one that could change."""
    return [noted.copy() if type(noted) is list else noted for noted in segment]


def _draw(segments: list[tuple[int, list[Any]]]) -> Iterator[tuple[int, list[Slot]]]:
    while segments:
        first, segment = segments.pop()
        for place in range(len(segment) - _STRIDE, -1, -_STRIDE):
            noted = segment[place]
            slots = noted if type(noted) is list else [tuple(segment[place : place + _STRIDE])]
            yield first + place // _STRIDE, slots
