"""What members of a cluster say to each other, and what a log is made of: values without behaviour.

Names follow Figures 2 and 13 of the Raft paper. ``sender`` and ``to`` are member ids; on the wire they are implied
by the connection. Indexes start at 1, 0 means "before the first entry".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from raftkv.raft.configuration import Configuration


class EntryKind(IntEnum):
    """What an entry's payload holds. The numbers are part of the format on disk and on the wire."""

    COMMANDS = 0  #: a batch of commands for the state machine, opaque to Raft
    NOOP = 1  #: nothing; a new leader's first entry (section 8)
    CONFIGURATION = 2  #: an encoded :class:`Configuration`, in force as soon as it is appended (section 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the log (section 5.3).

    :ivar index: position in the log, from 1.
    :ivar term: the term of the leader that made it.
    :ivar kind: what the payload holds.
    :ivar payload: bytes that were packed once, by the leader, and travel and rest unchanged.
    """

    index: int
    term: int
    kind: EntryKind
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HardState:
    """What must be on disk before anything that depends on it is said (Figure 2, "persistent state").

    :ivar term: latest term seen, 0 at first.
    :ivar voted_for: member that got this node's vote in ``term``, or ``None``.
    """

    term: int = 0
    voted_for: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotMeta:
    """What a snapshot replaces of the log (section 7).

    :ivar index: the last entry that it includes.
    :ivar term: that entry's term.
    :ivar configuration: the committed configuration as of ``index``; it may be joint.
    :ivar configuration_index: index of the entry that held it, 0 for the initial one.
    """

    index: int
    term: int
    configuration: Configuration
    configuration_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The base of all messages.

    :ivar term: the sender's term; for a pre-vote the term it would campaign in.
    :ivar sender: id of the member that says it.
    :ivar to: id of the member it is for.
    """

    term: int
    sender: str
    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestVote(Message):
    """A candidate asks for a vote (section 5.2), or whether it would get one (``pre_vote``, thesis 9.6).

    :ivar to_incarnation: the receiver's incarnation as the candidate's configuration has it, empty where unknown;
        a node answers only to its own, so that a wiped disk does not vote for its former self.
    :ivar leadership_transfer: the leader itself asked for this election (thesis 3.10): leader stickiness yields.
    """

    last_log_index: int
    last_log_term: int
    pre_vote: bool = False
    leadership_transfer: bool = False
    to_incarnation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestVoteResponse(Message):
    """The answer to a :class:`RequestVote` of the same ``pre_vote``."""

    vote_granted: bool
    pre_vote: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendEntries(Message):
    """The leader replicates entries that follow ``prev_log_index`` (section 5.3). Entries may be empty (a probe).

    :ivar read_round: the leader's newest round of read confirmation; its echo confirms every round up to it.
    """

    prev_log_index: int
    prev_log_term: int
    leader_commit: int
    entries: tuple[Entry, ...] = ()
    read_round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendEntriesResponse(Message):
    """A follower's answer to AppendEntries or InstallSnapshot, given only once what it promises is on disk.

    :ivar success: whether the entry at ``prev_log_index`` matched.
    :ivar match_index: on success, the last index known to equal the leader's log and to be on disk.
    :ivar rejected_index: on failure, the ``prev_log_index`` that did not match.
    :ivar hint_index: on failure, the largest index at which the logs may still agree.
    :ivar hint_term: on failure, the follower's term at ``hint_index``: back-up goes by term (end of section 5.3).
    :ivar read_round: echo of the request's.
    """

    success: bool
    match_index: int = 0
    rejected_index: int = 0
    hint_index: int = 0
    hint_term: int = 0
    read_round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Message):
    """The leader is alive; promises nothing about the log beyond ``commit_index``, which the receiver surely has.

    :ivar commit_index: the smaller of the leader's commit index and the receiver's match index.
    :ivar read_round: as in :class:`AppendEntries`.
    :ivar lease: whether the leader counts the answer towards a lease (thesis 6.4.1): who answers grants no vote for
        a while.
    :ivar sent_at: what the leader's own clock read when it made this, in seconds; means nothing to anybody else.
    """

    commit_index: int
    read_round: int = 0
    lease: bool = False
    sent_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatResponse(Message):
    """The echo of a :class:`Heartbeat`.

    :ivar sent_at: echo of the request's.
    :ivar promised_seconds: for how long, by its own clock and from the moment of this answer, the sender grants no
        vote, but to a successor that the leader itself has chosen; 0 for no such promise.
    :ivar room: how much room the sender's disk has, as a number of :class:`~raftkv.raft.room.Room`.
    """

    read_round: int = 0
    sent_at: float = 0.0
    promised_seconds: float = 0.0
    room: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallSnapshot(Message):
    """A snapshot file of the leader's has arrived whole and been verified (section 7).

    The file itself travels in chunks outside the core; the receiving service steps this message when it is complete.
    """

    snapshot: SnapshotMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadIndexRequest(Message):
    """A follower asks the leader for a read index (thesis 6.4). ``context`` is the follower's own number.

    :ivar lease: whether the leader's lease is proof enough, where it holds one.
    """

    context: int
    lease: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadIndexResponse(Message):
    """The leader confirmed that it led after the request arrived, when its commit index was ``index``."""

    context: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutNow(Message):
    """The leader asks its chosen successor to campaign at once (thesis 3.10)."""
