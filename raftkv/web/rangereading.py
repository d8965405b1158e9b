"""A range on its way into one answer: drawn from the store in small steps, all of them at one revision.

Nothing here knows of requests or connections. Whoever draws decides when the next step is due, so that a million keys
keep nobody waiting; what has changed in the store meanwhile does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from raftkv.kvstore.views import Page
from raftkv.web.documents import LINE, json_bytes, record_document

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


class RangeReading:
    """Draws one answer, as JSON in pieces.

    First the keys are counted, where that is not known; then the records come and then, in a round of their own, the
    folders: all of them would otherwise have to be kept until the last record was told.

    :param state: returns the state to read, for each step anew.
    :param revision: at which everything is read.
    :param limit: records and folders at most; 0 for all.
    :param position: where to begin, if not at the beginning.
    :param seal: makes of a place the token that the answer tells.
    :ivar is_done: whether the last piece has been drawn.
    """

    def __init__(
        self,
        request: RangeRequest,
        state: Callable[[], Reader],
        *,
        revision: int,
        limit: int,
        position: RangePosition | None,
        seal: Callable[[RangePosition], str],
    ) -> None:
        self._request = request
        self._state = state
        self._revision = revision
        self._limit = limit
        self._position = position
        self._seal = seal
        self.is_done = False

    def pieces(self) -> Iterator[bytes]:
        """Yield what the answer consists of; after each piece, also an empty one, others may have their turn.

        :raises Compacted: the revision is no longer kept; likewise :exc:`raftkv.errors.FutureRevision`.
        """
        count = yield from self.counted()
        out = [b'{"kvs":[']
        place = yield from self._draw(_records, out)
        if self._request.delimiter:
            out.append(b'],"folders":[')
            yield from self._draw(_folders, out)
        token = None if place is None else self._seal(RangePosition(self._revision, count, place))
        ending = orjson.dumps({"count": count, "continue": token, "revision": self._revision}, None, LINE)
        out += (b"],", ending[1:])
        self.is_done = True
        yield b"".join(out)

    def count_alone(self) -> Iterator[bytes]:
        """Yield the answer to who wants to know nothing else."""
        count = yield from self.counted()
        self.is_done = True
        yield json_bytes({"count": count, "revision": self._revision})

    def counted(self) -> Generator[bytes, None, int]:
        """Count the keys, with an empty piece after each step.

        :return: how many there are.
        """
        if self._position is not None:
            return self._position.keys
        request, revision = self._request, self._revision
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

    def _draw(self, render: _Render, out: list[bytes]) -> Generator[bytes, None, bytes | None]:
        """Draw the records, or the folders.

        :param out: gets the JSON; what is in it is yielded, and dropped, whenever there is more to come.
        :return: where the range goes on behind the limit, ``None`` where it does not.
        """
        request, left = self._request, self._limit
        place = None if self._position is None else self._position.place
        separator = b""
        while True:
            start, end = request.from_place(place)
            page = self._state().page(
                start,
                end,
                min(left, STEP_RECORDS) if left else STEP_RECORDS,
                revision=self._revision,
                reverse=request.reverse,
                prefix=request.prefix,
                delimiter=request.delimiter,
                max_bytes=STEP_BYTES,
                max_looks=STEP_LOOKS,
            )
            listed = render(page, request)
            if listed:
                out += (separator, listed)
                separator = b","
            drawn = len(page.items) + len(page.folders)
            place = page.next
            if place is None or (left and drawn == left):
                return place
            left -= drawn if left else 0
            yield b"".join(out)
            out.clear()


_Render = Callable[[Page, RangeRequest], bytes]


def _records(page: Page, request: RangeRequest) -> bytes:
    """Return the records of a page, as they stand in a list."""
    documents = [
        record_document(key.decode("utf-8"), record, with_value=not request.keys_only) for key, record in page.items
    ]
    return orjson.dumps(documents)[1:-1]


def _folders(page: Page, request: RangeRequest) -> bytes:
    """Return the folders of a page, as they stand in a list."""
    return orjson.dumps([folder.decode("utf-8") for folder in page.folders])[1:-1]
