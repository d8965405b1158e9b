"""The lower half of an HTTP connection: what waits to be sent, whether the client reads it, and when its time is up.

Knows bytes and deadlines; leaves to :class:`raftkv.web.connection.HttpConnection`, which is built on it, what the
bytes mean.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from raftkv.sending import send_at_once

if TYPE_CHECKING:
    from raftkv.web.site import ApiSite

_SILENCE_OPTIONS: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))  # seconds, seconds, times

MAX_UNSENT_BYTES: Final = 64 * 1024  #: of answers that are gathered for one write; as much as the transport gathers


@implementer(IPushProducer)
class HttpStream(Protocol):
    """One connection, as a stream of bytes out.

    What is appended to ``_out`` leaves with the next :meth:`_flush`; ``_out_bytes`` counts the bodies in it.

    :ivar deadline: when to call :meth:`expire`, by the site's coarse clock; ``None`` for never.
    """

    def __init__(self, site: ApiSite) -> None:
        self._site = site
        self._settings = site.api.settings
        self._out: list[bytes] = []
        self._out_bytes = 0
        self.deadline: float | None = None
        self._expired: Callable[[], None] = self.abort
        self._is_closing = False
        self._is_choked = False  # the client does not read its answers
        self._is_reading = True

    # -- for the upper half to implement ------------------------------------------------------------------------------

    def _stalled(self) -> None:
        """The client has stopped to read."""
        raise NotImplementedError

    def _resumed(self) -> None:
        """The client reads again."""
        raise NotImplementedError

    # -- the transport ------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Get to know the transport."""
        # ITransport and IConsumer, with abortConnection; no interface of Twisted has all that TCP and TLS share.
        self._tcp = cast(Any, self.transport)
        if ITCPTransport.providedBy(self._tcp):
            self._tcp.setTcpNoDelay(True)
            _notice_silence(self._tcp)
        self._tcp.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """The client does not read: serve it nothing more until it does."""
        self._is_choked = True
        self._stalled()

    def resumeProducing(self) -> None:
        """The client has read everything."""
        self._is_choked = False
        self._site.answers_were_read(self)
        self._resumed()

    def stopProducing(self) -> None:
        """Nothing to do: :meth:`connectionLost` follows."""

    def _buffer_at_most(self, size_bytes: int | None) -> None:
        """Have the transport say that it has enough at so many bytes; ``None`` for as many as it likes.

        Of TLS, and of whatever else has no such bound, the transport below has it, and it stays as it is.
        """
        if hasattr(self._tcp, "bufferSize"):
            self._tcp.bufferSize = FileDescriptor.bufferSize if size_bytes is None else size_bytes

    def _let_read(self, should_read: bool) -> None:
        """Read from the kernel, or let it hold what we could only pile up."""
        if should_read != self._is_reading:
            self._is_reading = should_read
            if should_read:
                self._tcp.resumeProducing()
            else:
                self._tcp.pauseProducing()

    # -- out ----------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            send_at_once(self._tcp, data)
            if self._is_choked:
                self._site.answers_wait(self, len(data))
        if self._is_closing:
            self._is_closing = False
            # A registered producer would keep the transport open for as long as it is paused.
            self._tcp.unregisterProducer()
            self._tcp.loseConnection()

    def abort(self) -> None:
        """Close at once, whatever is going on."""
        self._tcp.abortConnection()

    # -- time ---------------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float, expired: Callable[[], None]) -> None:
        self.deadline = self._site.now_seconds + seconds
        self._expired = expired

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = None
        self._expired()


def _notice_silence(tcp: ITCPTransport) -> None:
    """Have the kernel find out within a minute that a client's machine has gone without a word.

    A client may wait for an hour, and say nothing all that time; so long it would keep its place in a queue.
    """
    tcp.setTcpKeepAlive(True)
    handle = getattr(tcp, "getHandle", lambda: None)()
    for name, value in _SILENCE_OPTIONS:
        option = getattr(socket, name, None)  # not every system has them
        if option is not None and isinstance(handle, socket.socket):
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
