"""A range as JSON in pieces; the steps themselves are :class:`raftkv.reading.ranges.RangeSteps`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import orjson

from raftkv.kvstore.views import Page
from raftkv.reading.ranges import RangePosition, RangeRequest, RangeSteps
from raftkv.web.documents import LINE, json_bytes, record_document


class RangeReading:
    """Draws one answer, as JSON in pieces.

    First the keys are counted, where that is not known; then the records come and then, in a round of their own, the
    folders: all of them would otherwise have to be kept until the last record was told.

    :param steps: where the range is drawn from.
    :param limit: records and folders at most; 0 for all.
    :param seal: makes of a place the token that the answer tells.
    :ivar is_done: whether the last piece has been drawn.
    """

    def __init__(self, steps: RangeSteps, *, limit: int, seal: Callable[[RangePosition], str]) -> None:
        self._steps = steps
        self._limit = limit
        self._seal = seal
        self.is_done = False

    def pieces(self) -> Iterator[bytes]:
        """Yield what the answer consists of; after each piece, also an empty one, others may have their turn.

        :raises Compacted: the revision is no longer kept; likewise :exc:`raftkv.errors.FutureRevision`.
        """
        count = yield from self._steps.counted()
        out = [b'{"kvs":[']
        place = yield from self._draw(_records, out)
        if self._steps.request.delimiter:
            out.append(b'],"folders":[')
            yield from self._draw(_folders, out)
        token = None if place is None else self._seal(RangePosition(self._steps.revision, count, place))
        ending = orjson.dumps({"count": count, "continue": token, "revision": self._steps.revision}, None, LINE)
        out += (b"],", ending[1:])
        self.is_done = True
        yield b"".join(out)

    def count_alone(self) -> Iterator[bytes]:
        """Yield the answer to who wants to know nothing else."""
        count = yield from self._steps.counted()
        self.is_done = True
        yield json_bytes({"count": count, "revision": self._steps.revision})

    def _draw(self, render: _Render, out: list[bytes]) -> Generator[bytes, None, bytes | None]:
        """Draw the records, or the folders.

        :param out: gets the JSON; what is in it is yielded, and dropped, whenever there is more to come.
        :return: where the range goes on behind the limit, ``None`` where it does not.
        """
        steps, left = self._steps, self._limit
        place = steps.beginning
        separator = b""
        while True:
            page = steps.page(place, left)
            listed = render(page, steps.request)
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
