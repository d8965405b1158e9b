"""What a watch is, as its two ends see it: who asks for changes, and who tells them.

The server's end (:mod:`raftkv.server.watching`) follows the history of the store; the other one (HTTP, or a simulated
client) turns what it is told into whatever its own client reads. A watch is one cursor over the history, and no queue:
the telling end asks with each revision whether there is room for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from raftkv.errors import RaftKVError

if TYPE_CHECKING:
    from raftkv.kvstore.views import Change

PROGRESS_SECONDS = 10.0  #: without events, until a watch that did not ask for anything else is told how far it is


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequest:
    """What somebody wants to be told.

    :ivar start: the first key; with ``end`` a range ``start <= key < end``, where ``b""`` is no upper end.
    :ivar from_revision: the first revision, one that is yet to be too; ``None`` to begin behind whatever a
        linearizable read sees.
    :ivar resumes: whether everything below ``from_revision`` was told by some node before, so that a store which has
        not come that far, linearizably, has another history.
    :ivar puts: whether to tell puts; likewise ``deletes``.
    :ivar progress_seconds: how often to tell, at the least, how far the watch has come.
    :ivar is_progress_regular: whether that is told as often where there are events, too.
    """

    start: bytes = b""
    end: bytes = b""
    from_revision: int | None = None
    resumes: bool = False
    puts: bool = True
    deletes: bool = True
    progress_seconds: float = PROGRESS_SECONDS
    is_progress_regular: bool = False


class WatchEvent:
    """One change of one key; the same object for all watches that are told of it at the same time.

    :ivar revision: at which it happened.
    :ivar place: how many changes its revision has before it.
    :ivar size_bytes: of the values that it holds.
    :ivar forms: for whoever tells it on: what it looks like, so that it is made once for all watches.
    """

    __slots__ = ("change", "forms", "place", "revision", "size_bytes")

    def __init__(self, revision: int, place: int, change: Change) -> None:
        self.revision = revision
        self.place = place
        self.change = change
        _, record, previous = change
        self.size_bytes = (len(record[0]) if record else 0) + (len(previous[0]) if previous else 0)
        self.forms: dict[object, bytes] | None = None

    @property
    def is_delete(self) -> bool:
        """Whether the key is no more."""
        return self.change.record is None


class IWatch(Protocol):
    """A watch, in the hands of whoever asked for it."""

    def begin(self) -> None:
        """Ask for the first event; call it once. Everything may be told before this returns, the end included."""

    def cancel(self) -> None:
        """Nothing more is wanted; nothing more is told. After the end this does nothing."""

    def go_on(self) -> None:
        """There is room again, where :meth:`WatchReceiver.changed` has said that there was none."""

    def ask_progress(self) -> None:
        """Have :meth:`WatchReceiver.progress` called, once: as soon as everything that is known here has been told."""

    @property
    def told_revision(self) -> int:
        """The revision up to which everything has been told that was asked for."""


class WatchReceiver(Protocol):
    """Who is told. All of it is called in the reactor's thread, and must not block."""

    def begun(self, revision: int) -> None:
        """The watch has begun: everything up to ``revision`` counts as told. Comes first, unless the end does."""

    def changed(self, events: Sequence[WatchEvent], *, is_whole: bool) -> bool:
        """Events of one revision, at least one, in order.

        :param is_whole: whether these are the last ones of their revision; of a large one they come in parts.
        :return: whether there is room for more. If not, none come before :meth:`IWatch.go_on`.
        """

    def progress(self, revision: int) -> None:
        """Everything up to ``revision`` has been told."""

    def ended(self, error: RaftKVError) -> None:
        """The watch has ended, without being asked to.

        :param error: :exc:`~raftkv.errors.Compacted` where what comes next is no longer kept,
            :exc:`~raftkv.errors.Overflow` for a receiver that was too slow; else what would be told to a read.
        """
