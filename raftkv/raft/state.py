"""What every server knows (Figure 2, state on all servers), and what it has yet to tell the world.

The parts of a node share one :class:`State`; each says in its own module what of it it changes. The role is written
by ``node`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.errors import InvariantViolation
from raftkv.raft.configuration import Configuration, ConfigurationHistory
from raftkv.raft.diskwatch import DiskWatch
from raftkv.raft.durability import Durability
from raftkv.raft.log import Log
from raftkv.raft.messages import Entry, EntryKind, HardState, Message, SnapshotMeta
from raftkv.raft.ready import ReadState, Role
from raftkv.raft.settings import RaftSettings


class State:
    """The state of one server, and its outgoing tray.

    Invariant: ``last_applied <= commit_index <= log.last_index``, and none of them ever falls.

    :ivar joined: whether only what names our incarnation is about us; see :meth:`is_voter`.
    :ivar role: written only by the ``_become_*`` of the node.
    :ivar leader: the leader of the current term, where it is known.
    :ivar last_applied: the last entry that was handed out for application.
    :ivar now: what the driver's monotonic clock last read, in seconds; ``None`` where nobody says, and then there are
        neither leases nor promises.
    :ivar messages: to be sent with the next ``Ready``; likewise ``reads``, ``snapshot_peers`` and ``events``.
    """

    def __init__(
        self,
        *,
        node_id: str,
        incarnation: str,
        settings: RaftSettings,
        hard_state: HardState,
        log: Log,
        configurations: ConfigurationHistory,
        joined: bool = False,
    ) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self.joined = joined
        self.settings = settings
        self.log = log
        self.configurations = configurations
        self.durability = Durability(hard_state=hard_state, log=log)
        self.disk = DiskWatch(patience_ticks=settings.election_ticks)
        self.role = Role.FOLLOWER
        self.leader: str | None = None
        self.commit_index = log.snapshot_index
        self.last_applied = log.snapshot_index
        self.now: float | None = None
        self.messages: list[Message] = []
        self.reads: list[ReadState] = []
        self.snapshot_peers: list[str] = []
        self.events: list[str] = []

    # -- term and vote ---------------------------------------------------------------------------------------------

    @property
    def current_term(self) -> int:
        """The latest term this server has seen (Figure 2)."""
        return self.durability.hard_state.term

    @property
    def voted_for(self) -> str | None:
        """Who received this server's vote in the current term (Figure 2)."""
        return self.durability.hard_state.voted_for

    def enter_term(self, term: int) -> None:
        """Go on to a later term, in which nobody has this server's vote yet."""
        if term <= self.current_term:
            raise InvariantViolation(f"term {term} does not follow term {self.current_term}")
        self.durability.hard_state = HardState(term=term)

    def vote_for(self, candidate: str) -> None:
        """Give the vote of the current term; once given it stands until the term ends (section 5.2, B2)."""
        if self.voted_for not in (None, candidate):
            raise InvariantViolation(f"the vote of term {self.current_term} already belongs to {self.voted_for}")
        if self.voted_for is None:
            self.durability.hard_state = HardState(term=self.current_term, voted_for=candidate)

    # -- time --------------------------------------------------------------------------------------------------------

    def watch_disk(self) -> None:
        """Look, once a tick, whether our disk keeps up."""
        durability = self.durability
        if self.disk.tick(
            write_id=durability.last_write_id, done_write_id=durability.done_write_id, last_index=self.log.last_index
        ):
            stalled = "the disk stalls: a write has been under way for an election timeout"
            self.events.append(stalled if self.disk.stalled else "the disk keeps up again")

    # -- the log ---------------------------------------------------------------------------------------------------

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: the latest in the log, committed or not (section 6)."""
        return self.configurations.current

    def is_voter(self, configuration: Configuration) -> bool:
        """Tell whether this very server, not another one of its name, is a voter of a configuration."""
        if not configuration.is_voter(self.node_id):
            return False
        named = configuration.members[self.node_id].incarnation
        return named == self.incarnation or (not named and not self.joined)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries to the log; a configuration among them is in force at once.

        :raises InvariantViolation: a configuration cannot be read: to skip it would split the cluster.
        """
        self.log.append(entries)
        for entry in entries:
            if entry.kind is EntryKind.CONFIGURATION:
                self.configurations.append(entry.index, decoded_configuration(entry))

    def truncate_from(self, index: int) -> None:
        """Drop the entries from ``index`` on, which conflict with the leader's.

        :raises InvariantViolation: one of them is committed.
        """
        if index <= self.commit_index:
            raise InvariantViolation(f"entry {index} conflicts, but everything up to {self.commit_index} is committed")
        self.log.truncate_from(index)
        self.configurations.truncate_from(index)

    def commit_to(self, index: int) -> None:
        """Raise the commit index; a smaller one changes nothing (B13)."""
        if index > self.log.last_index:
            raise InvariantViolation(f"cannot commit {index}: the log ends at {self.log.last_index}")
        self.commit_index = max(self.commit_index, index)

    def restore(self, snapshot: SnapshotMeta) -> None:
        """Put a snapshot in place of the whole log and of the state machine."""
        self.log.restore(snapshot.index, snapshot.term)
        self.configurations.restore(snapshot.configuration, snapshot.configuration_index)
        self.commit_index = self.last_applied = snapshot.index
        self.durability.snapshot = snapshot

    def compact(self, index: int) -> None:
        """Drop the entries up to and including ``index``; a snapshot must cover them."""
        if index >= self.log.first_index:
            self.log.compact(index)
            self.configurations.compact(index)

    def take_committed(self) -> tuple[Entry, ...]:
        """Return the next committed entries to apply, bounded in size, and take them as applied."""
        if self.last_applied == self.commit_index:
            return ()
        entries = self.log.slice(
            self.last_applied + 1, self.commit_index + 1, max_bytes=self.settings.max_committed_bytes
        )
        self.last_applied = entries[-1].index
        return entries

    # -- messages --------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Send a message that promises nothing about our disk."""
        self.messages.append(message)

    def send_once_durable(self, message: Message) -> None:
        """Send a message once all that is known now is on disk."""
        if self.durability.nothing_pending:
            self.messages.append(message)
        else:
            self.durability.hold(message)


def decoded_configuration(entry: Entry) -> Configuration:
    """Return the configuration that an entry holds.

    :raises InvariantViolation: it is none, or of a version from the future.
    """
    try:
        return Configuration.decode(entry.payload)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvariantViolation(f"entry {entry.index} holds no configuration: {error}") from error
