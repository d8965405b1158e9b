"""A watch as a long poll: one answer, as soon as there is an event, or after a while without one.

A small answer is made as a whole. One that grows large, since a single revision may change a million keys, leaves in
pieces while it is being made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftkv.errors import Compacted, RaftKVError
from raftkv.watches import IWatch, WatchEvent
from raftkv.web.eventforms import event_json
from raftkv.web.exchange import JSON, Answer, Exchange
from raftkv.web.failures import fail
from raftkv.web.streaming import BodySource, OutgoingBody, Streamed

WHOLE_BYTES: Final = 256 * 1024  #: an answer that is larger leaves in pieces
ENOUGH_BYTES: Final = 1024 * 1024  #: past it the answer ends with the revision that is being told


class Poll(BodySource):
    """Receives what one watch is told (:class:`raftkv.watches.WatchReceiver`), until there is enough for an answer.

    :ivar watch: to be set before it is begun.
    """

    def __init__(self, exchange: Exchange, *, with_previous: bool, waits: bool) -> None:
        """
        :param waits: whether to wait for an event where there is none.
        """
        self.watch: IWatch | None = None
        self._exchange = exchange
        self._with_previous = with_previous
        self._waits = waits
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._told_revision = 0
        self._is_between_revisions = True
        self._has_begun = False
        self._is_streaming = False
        self._body: OutgoingBody | None = None
        self._is_over = False

    # -- from the watch ----------------------------------------------------------------------------------------------

    def begun(self, revision: int) -> None:
        """See :class:`raftkv.watches.WatchReceiver`."""
        self._has_begun = True
        self._told_revision = revision
        if not self._waits and self.watch is not None:
            self.watch.ask_progress()

    def changed(self, events: Sequence[WatchEvent], *, is_whole: bool) -> bool:
        """See :class:`raftkv.watches.WatchReceiver`."""
        if not self._size_bytes and self.watch is not None:
            self.watch.ask_progress()  # to have what else there is, and then answer
        for event in events:
            self._add(event_json(event, with_previous=self._with_previous))
        self._is_between_revisions = is_whole
        if is_whole:
            self._told_revision = events[-1].revision
        if is_whole and self._size_bytes >= ENOUGH_BYTES:
            self._answer()
            return False
        if self._size_bytes > WHOLE_BYTES and not self._is_streaming:
            self._stream()
        elif self._body is not None:
            self._send_pieces()
        return not self._is_over and (self._body is None or self._body.has_room)

    def progress(self, revision: int) -> None:
        """See :class:`raftkv.watches.WatchReceiver`."""
        self._told_revision = revision
        self._answer()

    def ended(self, error: RaftKVError) -> None:
        """See :class:`raftkv.watches.WatchReceiver`."""
        if self._is_over:
            return
        can_answer = self._is_between_revisions and (self._size_bytes > 0 or not isinstance(error, Compacted))
        if self._is_streaming and not self._is_between_revisions and self._body is not None:
            self._is_over = True
            self._body.break_off(error)
        elif self._is_streaming or (self._has_begun and can_answer):
            self._answer()
        else:
            self._is_over = True
            fail(self._exchange, error)

    # -- from the answer ---------------------------------------------------------------------------------------------

    def abandoned(self) -> None:
        """The client has gone before its answer."""
        self._is_over = True
        if self.watch is not None:
            self.watch.cancel()

    def resume(self, body: OutgoingBody) -> None:
        """See :class:`BodySource`."""
        if self._body is None:
            self._body = body
            self._send_pieces()
        elif self.watch is not None:
            self.watch.go_on()

    def gone(self) -> None:
        """See :class:`BodySource`."""
        self.abandoned()

    # -- the answer ---------------------------------------------------------------------------------------------------

    def _add(self, document: bytes) -> None:
        self._pieces.append(b"," + document if self._size_bytes else b'{"events":[' + document)
        self._size_bytes += len(document)

    def _stream(self) -> None:
        self._is_streaming = True
        self._exchange.stream(Streamed(200, JSON, self))

    def _send_pieces(self) -> None:
        pieces, self._pieces = self._pieces, []
        if self._body is not None:
            self._body.write(b"".join(pieces))

    def _answer(self) -> None:
        """Answer with what there is, at the end of a revision."""
        if self._is_over:
            return
        self._is_over = True
        if self.watch is not None:
            self.watch.cancel()
        if not self._size_bytes:
            self._pieces.append(b'{"events":[')
        self._pieces.append(b'],"revision":%d}\n' % self._told_revision)
        if self._is_streaming:
            self._send_pieces()
            if self._body is not None:
                self._body.finish()
        else:
            self._exchange.answer(Answer(200, JSON, b"".join(self._pieces)))
