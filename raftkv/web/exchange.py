"""One request as the operations see it, and the one answer that it gets.

Knows nothing of how a request was read nor of how its answer is written: the two lanes (``request`` and ``app``) do
that, each with a ``send`` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from twisted.logger import Logger

if TYPE_CHECKING:
    from raftkv.web.streaming import Streamed

Headers = tuple[tuple[bytes, bytes], ...]

JSON: Final[Headers] = ((b"Content-Type", b"application/json"),)

READING_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})  #: those that change nothing (RFC 9110, 9.2.1)


class Answer(NamedTuple):
    """What a request gets back.

    A named tuple, since one is made for each request and a frozen dataclass takes four times as long.

    :ivar status: the status code.
    :ivar headers: beside those that every answer bears and ``Content-Length``; in the order in which they are sent.
    :ivar body: empty where the status forbids one; that of a GET also for HEAD, where it gives the length.
    """

    status: int
    headers: Headers
    body: bytes


class Exchange:
    """One request, on its way to its one answer.

    :ivar method: as sent, such as ``b"GET"``.
    :ivar path: as sent, neither decoded nor normalised, without the query.
    :ivar query: as sent, what follows the first ``?``; empty where there is none.
    :ivar headers: names in lower case; where a header came several times, the values are joined by ``", "``.
    :ivar body: all of it.
    :ivar route: the template of the route that serves it, for the metrics.
    :ivar started: when it had arrived, on the reactor's clock.
    """

    __slots__ = ("_abandoned", "_observe", "_send", "body", "headers", "method", "path", "query", "route", "started")

    _log: Logger = Logger()

    def __init__(
        self,
        method: bytes,
        path: bytes,
        query: bytes,
        headers: Mapping[bytes, bytes],
        body: bytes,
        started: float,
        send: Callable[[Answer | Streamed], None],
    ) -> None:
        # Positional, for one is made for each request and keywords cost a tenth of the fast lane's time.
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.started = started
        self.route = "other"
        self._send: Callable[[Answer | Streamed], None] | None = send
        self._observe: Callable[[Exchange, int], object] | None = _unobserved
        self._abandoned: Callable[[], object] | None = None

    @property
    def is_write(self) -> bool:
        """Whether the method is one that may change something."""
        return self.method not in READING_METHODS

    @property
    def is_answered(self) -> bool:
        """Whether the answer has been given, whether or not there was still a client to send it to."""
        return self._observe is None

    def observed_by(self, observe: Callable[[Exchange, int], object]) -> None:
        """Have ``observe`` called with this exchange and the status of its answer, just before that is sent."""
        self._observe = observe

    def answer(self, answer: Answer) -> None:
        """Send the answer; nothing is sent where the client has gone.

        :param answer: the first one counts. A second is a fault of ours: it is logged and dropped, for the client
            would read it as the answer to its next request.
        """
        observe, self._observe = self._observe, None
        if observe is None:
            self._log.error("{route} was answered twice; the second answer is dropped", route=self.route)
            return
        observe(self, answer.status)
        send, self._send = self._send, None
        if send is not None:
            send(answer)

    def stream(self, streamed: Streamed) -> None:
        """Send the head of an answer, and then what its source writes; in place of :meth:`answer`.

        The source is told at once that nothing is wanted where the client has gone, or an answer was given before.
        """
        observe, self._observe = self._observe, None
        send, self._send = self._send, None
        if observe is None:
            self._log.error("{route} was answered twice; the second answer is dropped", route=self.route)
        else:
            observe(self, streamed.status)
            if send is not None:
                send(streamed)
                return
        streamed.source.gone()

    def when_abandoned(self, call: Callable[[], object]) -> None:
        """Have something called if the client goes away before its answer; at once where it has gone already."""
        if self._observe is None:
            return
        if self._send is None:
            call()
        else:
            self._abandoned = call

    def abandon(self) -> None:
        """The client has gone: whatever the answer will be, nobody waits for it."""
        self._send = None
        abandoned, self._abandoned = self._abandoned, None
        if abandoned is not None and self._observe is not None:
            abandoned()


def _unobserved(exchange: Exchange, status: int) -> None:
    """Stand in for an observer, so that ``None`` means "answered"."""
