"""What a leader knows of one peer's log, and how fast it may send to it.

Knows three states. *Probe*: the peer's log is not known for sure, one message at a time. *Replicate*: it is, messages
follow each other without waiting within a window. *Snapshot*: what it needs was compacted; nothing is sent until the
snapshot has arrived. Who sends what is the business of ``replication``.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum

from raftkv.raft.ready import EntriesWanted
from raftkv.raft.room import Room


class ProgressState(Enum):
    """How a leader sends to a peer."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressView:
    """A peer as the leader sees it, for those outside the core.

    :ivar ticks_since_contact: ticks since its last message arrived.
    :ivar room: how much room its disk has, as it last said; ``None`` where it has not said yet.
    """

    match_index: int
    next_index: int
    state: ProgressState
    recent_active: bool
    ticks_since_contact: int
    room: Room | None = None


class Window:
    """The messages on their way to a peer, bounded in number and in bytes."""

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: deque[tuple[int, int]] = deque()  # (index of the last entry, bytes)
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be sent until an answer comes."""
        return len(self._messages) >= self._max_messages or self._bytes >= self._max_bytes

    def add(self, last_index: int, size: int) -> None:
        """Note a message whose last entry is ``last_index``."""
        self._messages.append((last_index, size))
        self._bytes += size

    def free_to(self, index: int) -> None:
        """Note that everything up to ``index`` has been answered; one answer may stand for many."""
        while self._messages and self._messages[0][0] <= index:
            self._bytes -= self._messages.popleft()[1]

    def clear(self) -> None:
        """Forget all of them."""
        self._messages.clear()
        self._bytes = 0


class Progress:
    """One peer's progress during one leadership.

    Invariant: ``match_index < next_index``. In *replicate* ``next_index`` runs ahead of what was acknowledged.

    :ivar match_index: the highest index known to be on the peer's disk and equal to ours (Figure 2).
    :ivar next_index: the next entry to send (Figure 2).
    :ivar pending_snapshot: in *snapshot*, the index that the peer will have after it.
    :ivar recent_active: whether it was heard since the last check of the quorum.
    :ivar ticks_since_contact: ticks since it was last heard.
    :ivar commit_sent: the largest commit index that it was told.
    :ivar read_round: the newest round of read confirmation that it echoed.
    :ivar promised_until: until when, by our own clock, it surely grants no vote behind our back (thesis 6.4.1).
    :ivar contact_wanted: an AppendEntries is due even where there are no entries to send.
    :ivar news_wanted: one is due where more is committed than the peer was told.
    :ivar reading: the entries that are being read from the disk for it; ``None`` for none.
    :ivar departing: it left the configuration, and is sent only what tells it so.
    :ivar room: how much room its disk has, as it said last in this leadership; ``None`` before.
    """

    def __init__(self, *, next_index: int, max_messages: int, max_bytes: int) -> None:
        self.match_index = 0
        self.next_index = next_index
        self.state = ProgressState.PROBE
        self.pending_snapshot = 0
        self.recent_active = False
        self.ticks_since_contact = 0
        self.commit_sent = 0
        self.read_round = 0
        self.promised_until = -math.inf
        self.contact_wanted = True
        self.news_wanted = False
        self.reading: EntriesWanted | None = None
        self.departing = False
        self.room: Room | None = None
        self._probe_sent = False
        self._probe_has_entries = False
        self._window = Window(max_messages=max_messages, max_bytes=max_bytes)

    @property
    def may_send_entries(self) -> bool:
        """Whether entries may be sent now."""
        if self.state is ProgressState.REPLICATE:
            return not self._window.is_full
        return self.state is ProgressState.PROBE and not self._probe_sent

    @property
    def may_send_probe(self) -> bool:
        """Whether a message without entries may be sent now; a full window does not forbid it."""
        return self.state is ProgressState.REPLICATE or (self.state is ProgressState.PROBE and not self._probe_sent)

    def heard(self) -> None:
        """Note that some message of the peer arrived."""
        self.recent_active = True
        self.ticks_since_contact = 0

    def sent(self, *, last_index: int, size: int, commit_index: int) -> None:
        """Note an AppendEntries that was sent.

        :param last_index: its last entry; where it has none, its ``prev_log_index``.
        :param size: bytes of its entries, 0 for none.
        """
        self.contact_wanted = self.news_wanted = False
        self.commit_sent = max(self.commit_sent, commit_index)
        if self.state is ProgressState.PROBE:
            self._probe_sent = True
            self._probe_has_entries = bool(size)
        elif size:
            self.next_index = last_index + 1
            self._window.add(last_index, size)

    def acknowledged(self, match_index: int, *, first_index: int) -> None:
        """Take a successful answer.

        A probe of whose entries none was taken, though the logs agree before them, is the answer of a peer that has no
        room for them just now. It stays a probe, for the next sign of life: sent at once, they would come back at once.

        :param first_index: where our own log begins.
        """
        took_nothing = self._probe_has_entries and match_index < self.next_index
        self.match_index = max(self.match_index, match_index)
        self.next_index = max(self.next_index, self.match_index + 1)
        self._window.free_to(match_index)
        if self.state is ProgressState.SNAPSHOT:
            # Whatever brought it there: once our log can carry on from its end, the snapshot is no longer needed.
            arrived = self.match_index >= self.pending_snapshot or self.match_index + 1 >= first_index
            if not arrived:
                return
        if self.state is not ProgressState.REPLICATE and not took_nothing:
            self.next_index = self.match_index + 1
            self._enter(ProgressState.REPLICATE)

    def rejected(self, rejected_index: int, *, retry_index: int) -> bool:
        """Take an answer that says that the entry at ``rejected_index`` did not match.

        :param retry_index: the largest index at which the logs may still agree.
        :return: whether it changed anything; a late answer does not.
        """
        if self.state is ProgressState.SNAPSHOT or rejected_index <= self.match_index:
            return False
        if self.state is ProgressState.PROBE and rejected_index != self.next_index - 1:
            return False
        self.next_index = max(min(rejected_index, retry_index + 1), self.match_index + 1)
        self._enter(ProgressState.PROBE)
        return True

    def heartbeat_answered(self, last_index: int) -> None:
        """Take the answer to a heartbeat; a peer that is behind is asked where it stands.

        A message may have been lost (or the peer's disk be slow): without entries to follow, nothing but this would
        find out (B18).
        """
        self._probe_sent = False
        if self.match_index < last_index:
            self.contact_wanted = True

    def lost(self) -> None:
        """Note that messages to the peer may have been lost: send again from what it surely has."""
        if self.state is ProgressState.REPLICATE:
            self.next_index = self.match_index + 1
            self._enter(ProgressState.PROBE)

    def snapshot_needed(self, index: int) -> None:
        """Note that a snapshot up to ``index`` is sent to the peer."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index

    def snapshot_finished(self, index: int, *, delivered: bool) -> None:
        """Note the end of the transfer; what comes next waits for the next sign of life.

        Not at once: a delivered snapshot may still be in the peer's hands, and a peer that refused one would be
        offered it in a tight loop.
        """
        if self.state is not ProgressState.SNAPSHOT:
            return
        self.next_index = max(self.match_index, index if delivered else 0) + 1
        self._enter(ProgressState.PROBE)
        self._probe_sent = True

    def view(self) -> ProgressView:
        """Return the peer as others may see it."""
        return ProgressView(
            match_index=self.match_index,
            next_index=self.next_index,
            state=self.state,
            recent_active=self.recent_active,
            ticks_since_contact=self.ticks_since_contact,
            room=self.room,
        )

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.pending_snapshot = 0
        self.contact_wanted = state is ProgressState.PROBE
        self._probe_sent = self._probe_has_entries = False
        self._window.clear()
