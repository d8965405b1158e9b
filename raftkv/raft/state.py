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
from raftkv.raft.ready import EntriesWanted, ReadState, Role
from raftkv.raft.room import DiskRoom
from raftkv.raft.settings import RaftSettings


class State:
    """The state of one server, and its outgoing tray.

    Invariant: ``last_applied <= commit_index <= log.last_index``, and none of them ever falls, but for a state that has
    to be made anew (:meth:`apply_again`).

    :param lost_term: see :attr:`may_lack_entries`.
    :ivar joined: whether only what names our incarnation is about us; see :meth:`is_voter`.
    :ivar role: written only by the ``_become_*`` of the node.
    :ivar leader: the leader of the current term, where it is known.
    :ivar last_applied: the last entry that was handed out for application.
    :ivar now: what the driver's monotonic clock last read, in seconds; ``None`` where nobody says, and then there are
        neither leases nor promises.
    :ivar may_apply: whether the state machine takes entries at the moment; else they stay in the log.
    :ivar messages: to be sent with the next ``Ready``; likewise ``reads``, ``snapshot_peers``,
        ``entries_wanted`` and ``events``.
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
        lost_term: int = 0,
    ) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self.joined = joined
        self._lost_term = lost_term
        self.settings = settings
        self.log = log
        self.configurations = configurations
        self.durability = Durability(hard_state=hard_state, log=log)
        self.disk = DiskWatch(patience_ticks=settings.election_ticks)
        self.room = DiskRoom()
        self.role = Role.FOLLOWER
        self.leader: str | None = None
        self.commit_index = log.snapshot_index
        self.last_applied = log.snapshot_index
        self.now: float | None = None
        self.may_apply = True
        self._wanted_to_apply: EntriesWanted | None = None
        self._read_to_apply: tuple[Entry, ...] = ()
        self._questions = 0
        self.entries_wanted: list[EntriesWanted] = []
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

    @property
    def may_lack_entries(self) -> bool:
        """Whether entries that this server has acknowledged may be missing from its log: it then votes for nobody.

        They were of terms up to ``lost_term``. Once the log holds an entry of a later term it has all of them that were
        committed: the leader of that term was elected without this vote, so that it had them (section 5.4.3), and logs
        that hold the same entry are equal up to it.
        """
        return self._lost_term > 0 and self.log.last_term <= self._lost_term

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
        self.room.spend(entries, self.log.append(entries))
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

    # -- application -------------------------------------------------------------------------------------------------

    @property
    def has_committed(self) -> bool:
        """Whether :meth:`take_committed` would hand something out, or ask for what it needs."""
        if self.last_applied >= self.commit_index or not self.may_apply:
            return False
        in_memory = self.last_applied + 1 >= self.log.cached_index
        return in_memory or bool(self._read_to_apply) or self._wanted_to_apply is None

    def take_committed(self) -> tuple[Entry, ...]:
        """Return the next committed entries to apply, bounded in size, and take them as applied.

        Those that are on the disk only are asked for, and handed out by a later call.
        """
        if not self.has_committed:
            return ()
        start = self.last_applied + 1
        entries, self._read_to_apply = self._read_to_apply, ()
        if start >= self.log.cached_index:
            entries = self.log.slice(start, self.commit_index + 1, self.settings.max_committed_bytes)
        elif entries and entries[0].index != start:
            entries = ()  # a snapshot was installed since they were asked for
        if entries:
            self.last_applied = entries[-1].index
        if self.has_committed and self.last_applied + 1 < self.log.cached_index:
            # Now, and not when these are applied: the disk reads while the state machine works.
            self._wanted_to_apply = self.ask_for_entries(
                peer=None, start=self.last_applied + 1, stop=min(self.commit_index + 1, self.log.cached_index)
            )
        return entries

    def apply_again(self, after: int) -> None:
        """Take what lies behind ``after`` as not applied: the one case in which ``last_applied`` falls."""
        if not self.log.first_index - 1 <= after <= self.last_applied:
            raise InvariantViolation(
                f"cannot apply again behind {after}: the log begins at {self.log.first_index}, {self.last_applied=}"
            )
        self.last_applied = after
        self._read_to_apply, self._wanted_to_apply = (), None

    def ask_for_entries(self, *, peer: str | None, start: int, stop: int) -> EntriesWanted:
        """Have entries read back from the disk: no more than may be sent, or applied, at once."""
        self._questions += 1
        settings = self.settings
        max_bytes = min(
            settings.max_read_bytes, settings.max_committed_bytes if peer is None else settings.max_append_bytes
        )
        wanted = EntriesWanted(number=self._questions, peer=peer, start=start, stop=stop, max_bytes=max_bytes)
        self.entries_wanted.append(wanted)
        return wanted

    def entries_read(self, wanted: EntriesWanted, entries: Sequence[Entry]) -> None:
        """Take the entries that the state machine needs.

        A snapshot that was installed meanwhile has made them useless, and may have removed them.

        :raises InvariantViolation: they are not those of our log.
        """
        if wanted != self._wanted_to_apply:
            return
        self._wanted_to_apply = None
        if wanted.start == self.last_applied + 1:
            if not entries:
                raise InvariantViolation(f"entry {wanted.start} is not on our disk, and was not applied yet")
            self._read_to_apply = self.checked(wanted, entries)

    def checked(self, wanted: EntriesWanted, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        """Return entries that came back from the disk.

        :raises InvariantViolation: they are not those of our log.
        """
        for index, entry in enumerate(entries, wanted.start):
            if (entry.index, entry.term) != (index, self.log.term_at(index)):
                raise InvariantViolation(f"the disk has entry {entry.index} of term {entry.term} for entry {index}")
        return tuple(entries)

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
