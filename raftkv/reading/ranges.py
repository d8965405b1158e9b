"""A range on its way into one answer: drawn from the store in small steps, all of them at one revision.

Nothing here knows of requests or connections. Whoever draws decides when the next step is due, so that a million keys
keep nobody waiting; what has changed in the store meanwhile does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from raftkv.kvstore.views import Page

if TYPE_CHECKING:
    from raftkv.kvstore.reading import Reader

STEP_RECORDS: Final = 400  #: in a step, which then takes one or two milliseconds
STEP_BYTES: Final = 64 * 1024  #: of keys and values in a step; one value can be larger
STEP_LOOKS: Final = 2_000  #: at keys in a step, where most of them were not there at the revision


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRequest:
    """What is asked of a range, apart from how much of it and when.

    :ivar start: the first key that may be in it.
    :ivar end: the first key above it; ``b""`` for no upper end.
    :ivar prefix: behind which the delimiter divides.
    :ivar delimiter: ``b""`` for no folders.
    """

    start: bytes
    end: bytes
    reverse: bool = False
    keys_only: bool = False
    prefix: bytes = b""
    delimiter: bytes = b""

    def identity(self) -> tuple[Any, ...]:
        """Return what must be the same where a range goes on."""
        prefix = self.prefix if self.delimiter else b""
        return ("range", self.start, self.end, self.reverse, self.keys_only, prefix, self.delimiter)

    def holds(self, place: bytes) -> bool:
        """Tell whether a place lies in the range, or at one of its edges."""
        return self.start <= place and (not self.end or place <= self.end)

    def from_place(self, place: bytes | None) -> tuple[bytes, bytes]:
        """Return start and end of what is left from a place on, which a page of the store has told."""
        if place is None:
            return self.start, self.end
        return (self.start, place) if self.reverse else (place, self.end)


class RangePosition(NamedTuple):
    """Where a range goes on.

    :ivar revision: at which all of it is read.
    :ivar keys: how many all of it has.
    :ivar place: as :meth:`RangeRequest.from_place` takes it.
    """

    revision: int
    keys: int
    place: bytes


class RangeSteps:
    """One range at one revision, a step at a time.

    :param state: returns the state to read, for each step anew.
    :param position: where to begin, if not at the beginning.
    :ivar request: what is asked.
    :ivar revision: at which everything is read.
    :ivar beginning: the place to begin at, ``None`` for the range's own.
    """

    def __init__(
        self, request: RangeRequest, state: Callable[[], Reader], *, revision: int, position: RangePosition | None
    ) -> None:
        self.request = request
        self.revision = revision
        self.beginning = None if position is None else position.place
        self._state = state
        self._position = position

    def counted(self) -> Generator[bytes, None, int]:
        """Count the keys, with a rest (that yields nothing, as bytes) after each step.

        :return: how many there are.
        :raises Compacted: the revision is no longer kept; likewise :exc:`raftkv.errors.FutureRevision`.
        """
        if self._position is not None:
            return self._position.keys
        request, revision = self.request, self.revision
        quick = self._state().quick_count(request.start, request.end, revision, max_looks=STEP_LOOKS)
        if quick is not None:
            return quick
        count, start = 0, request.start
        while True:
            page = self._state().page(start, request.end, STEP_LOOKS, revision=revision, max_looks=STEP_LOOKS)
            count += len(page.items)
            if page.next is None:
                return count
            start = page.next
            yield b""

    def page(self, place: bytes | None, left: int) -> Page:
        """Take one step.

        :param place: where it begins: :attr:`beginning`, or ``next`` of the page before.
        :param left: how many records and folders are wanted yet; 0 for all there are.
        :raises Compacted: as for :meth:`counted`.
        """
        request = self.request
        start, end = request.from_place(place)
        return self._state().page(
            start,
            end,
            min(left, STEP_RECORDS) if left else STEP_RECORDS,
            revision=self.revision,
            reverse=request.reverse,
            prefix=request.prefix,
            delimiter=request.delimiter,
            max_bytes=STEP_BYTES,
            max_looks=STEP_LOOKS,
        )
