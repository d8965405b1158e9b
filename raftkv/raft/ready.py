"""The contract between the core and the driver: everything that the world now has to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from raftkv.raft.messages import Entry, HardState, Message, SnapshotMeta


class Role(Enum):
    """What a node is at the moment (section 5.1); the values are those of ``/v1/status``."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """What one ``Ready`` asks to persist, all of it or (after a crash) a prefix of the order given here.

    Writes complete in the order of their ids. The fields stand in the order in which they take effect.

    :ivar write_id: grows by one with each write of a run of the process.
    :ivar hard_state: the new term and vote, or ``None`` where they did not change.
    :ivar snapshot: an installed snapshot, whose file is already on disk: it replaces the log up to its index, and
        the whole log where that does not hold the entry (index, term). ``None`` otherwise.
    :ivar entries: entries to append, contiguous; what the log held at ``entries[0].index`` and behind is dropped
        first (a conflict was found, section 5.3).
    """

    write_id: int
    hard_state: HardState | None = None
    snapshot: SnapshotMeta | None = None
    entries: tuple[Entry, ...] = ()

    @property
    def only_appends(self) -> bool:
        """Whether there are entries, and nothing else."""
        return self.hard_state is None and self.snapshot is None and bool(self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadState:
    """A read that may be served once ``index`` has been applied; ``index`` is ``None`` where it must be asked anew.

    :ivar context: what was given to ``node.read_index``.
    """

    context: int
    index: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesWanted:
    """Entries that are on our disk only and somebody waits for; answered by ``entries_read``, whatever came of it.

    At most one is under way for each peer, and one for the state machine: what they can take of memory is bounded.

    :ivar number: tells this question from every other of this run of the process.
    :ivar peer: the member that is to get them; ``None`` for our own state machine.
    :ivar start: index of the first one; all of them are stable.
    :ivar stop: index behind the last one that is of any use.
    :ivar max_bytes: as for the log in memory: as many as fit, at least one.
    """

    number: int
    peer: str | None
    start: int
    stop: int
    max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftState:
    """What nobody persists but everybody wants to know."""

    role: Role
    term: int
    leader: str | None


@dataclass(slots=True, kw_only=True)  # not frozen, which takes three times as long to make: each turn makes one
class Ready:
    """What the driver has to do, in the order of the fields.

    :ivar soft_state: the role, term and leader, where one of them changed since the last ``Ready``.
    :ivar messages: to be sent at once: they promise nothing that is not on disk already. Those that do (votes,
        acknowledgements, a candidate's own requests) are held inside the node until ``advance`` of their write.
    :ivar send_snapshots: peers that need the newest snapshot; answered by ``report_snapshot``.
    :ivar write: to be persisted, then reported with ``advance(write.write_id)``; ``None`` where nothing changed.
    :ivar committed: committed entries to apply, contiguous with those of earlier ``Ready`` values, bounded in size:
        where more wait, ``has_ready()`` stays true. They may not be on this node's own disk yet. They come after
        ``write.snapshot``, which the state machine restores first.
    :ivar entries_wanted: entries to be read from the disk, without anything else waiting for it.
    :ivar reads: reads whose index is now known, or which were lost with the leader.
    :ivar configuration_changed: whether the configuration in force changed (appended, rolled back or restored).
    :ivar events: facts worth a line in the log, as short sentences.
    """

    soft_state: SoftState | None = None
    messages: tuple[Message, ...] = ()
    send_snapshots: tuple[str, ...] = ()
    write: Write | None = None
    committed: tuple[Entry, ...] = ()
    entries_wanted: tuple[EntriesWanted, ...] = ()
    reads: tuple[ReadState, ...] = ()
    configuration_changed: bool = False
    events: tuple[str, ...] = ()
