"""The seams between the parts: what a service asks of its neighbours, and what a test may put in their place.

Nothing here knows a reactor or a file. Callbacks named ``done`` are called exactly once, in the reactor's thread,
possibly before the call that took them returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from raftkv.errors import RaftKVError
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Entry, EntryKind, HardState, Message, SnapshotMeta
from raftkv.raft.ready import Write
from raftkv.raft.terms import OnDisk, TermRuns

if TYPE_CHECKING:
    from raftkv.kvstore import Store
    from raftkv.watches import IWatch, WatchReceiver, WatchRequest

Command = tuple[Any, ...]  #: one command of the state machine; ``raftkv.kvstore.commands`` makes them
Result = tuple[Any, ...]  #: its answer, a tuple that msgpack can carry; the first element is a status
Record = tuple[bytes, int, int, int, int]  #: value, create_revision, mod_revision, version, lease (0: none)
Consistency = Literal["linearizable", "lease", "stale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a node is, as its data directory and its first words on a connection say it.

    :ivar cluster_id: hex; equal on all members.
    :ivar node_id: the member id.
    :ivar incarnation: hex, random, made together with the data directory.
    :ivar raft_addr: where the other nodes reach its Raft port; likewise ``rpc_addr`` and ``http_addr``.
    """

    cluster_id: str
    node_id: str
    incarnation: str
    raft_addr: str
    rpc_addr: str
    http_addr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a node says to one that has an empty data directory.

    :ivar identity: who it is, or will be.
    :ivar holds: whether it knows of anything that the other may have forgotten: it has been in some term, so it may
        have voted, and may have a log. ``None`` from a founder that has not been in any, and has not met this very
        incarnation: the other may have begun without it, or never.
    """

    identity: Identity
    holds: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """How a node came to its cluster: to one that was running, or that it founded together with others.

    :ivar incarnation: hex; drawn, and on disk, before the cluster hears of it, so that asking twice is asking once.
    :ivar cluster_id: hex; empty until the cluster has answered.
    :ivar configuration: the committed one that made this node a member, or the one that the founders agreed on;
        ``None`` until then.
    :ivar configuration_index: index of its entry: what the log says before that is about others. 0 for a founder.
    """

    incarnation: str
    cluster_id: str = ""
    configuration: Configuration | None = None
    configuration_index: int = 0

    @property
    def is_founder(self) -> bool:
        """Whether this node is one of those that the cluster began with."""
        return self.configuration is not None and self.configuration_index == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesRequest:
    """What a node whose log is damaged asks of the others: entries of the log that holds a certain entry.

    Two logs that hold an entry of the same index and term are equal up to it (section 5.3), so that whoever holds it
    can tell what came before it, leader or not, committed or not.

    :ivar anchor_index: index of that entry, of term ``anchor_term``.
    :ivar first: index of the first entry that is asked for; ``stop`` is that behind the last one, at most one behind
        the anchor. Equal to ``first`` where only the term in front of it is.
    """

    anchor_index: int
    anchor_term: int
    first: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesAnswer:
    """What a member has of what an :class:`EntriesRequest` asks for.

    :ivar previous_term: term of the entry before the first one, 0 where there is none; ``None`` where this member does
        not hold the anchor, or no longer all that was asked for, and ``entries`` is empty.
    :ivar entries: as many as fit, from the first one on.
    :ivar is_damaged: whether this member lacks parts of its own log, so that it may have held what it does not give.
    """

    previous_term: int | None = None
    entries: tuple[Entry, ...] = ()
    is_damaged: bool = False


# -- the disk ----------------------------------------------------------------------------------------------------


class IFile(Interface):
    """An open file of an :class:`IDisk`. Every method may block and raises :exc:`OSError`."""

    def write_at(offset: int, data: bytes) -> None:
        """Write all of ``data`` at ``offset``; it may be lost in a crash until :meth:`sync` has returned."""

    def read_at(offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes; fewer only at the end of the file."""

    def size() -> int:
        """Return the length of the file in bytes."""

    def truncate(length: int) -> None:
        """Cut or extend the file (with zeros); like a write, it is safe only after :meth:`sync`."""

    def allocate(length: int) -> None:
        """Reserve room so that writes below ``length`` need no new metadata; the new bytes read as zeros."""

    def sync() -> None:
        """Return once all earlier writes are on the medium (``fdatasync``)."""

    def close() -> None:
        """Give the file back; closing twice is allowed."""


class IDisk(Interface):
    """One data directory. Names are relative, with ``/`` between folders. Every method may block; :exc:`OSError`."""

    root = Attribute("Path of the directory, for messages.")

    def open(name: str, create: bool = False) -> IFile:
        """Open for reading and writing; with ``create``, make an empty file where there is none."""

    def exists(name: str) -> bool:
        """Tell whether there is a file or folder of this name."""

    def names(folder: str) -> list[str]:
        """Return the sorted names in a folder; empty where the folder does not exist."""

    def make_folder(name: str) -> None:
        """Make a folder and its parents where missing."""

    def rename(old: str, new: str) -> None:
        """Move a file over another in one step; safe in a crash only after :meth:`sync_folder`."""

    def remove(name: str) -> None:
        """Delete a file; safe in a crash only after :meth:`sync_folder`."""

    def sync_folder(name: str) -> None:
        """Return once creations, renames and removals in the folder are on the medium."""

    def free_bytes() -> int:
        """Return the bytes still free on the medium."""


class IBatchWorker(Interface):
    """Runs blocking work away from the reactor: a thread in production, a clock-driven one in simulations."""

    def start(process: Callable[[list[Any]], None], done: Callable[[list[Any], BaseException | None], None]) -> None:
        """Begin. ``process`` runs away from the reactor with everything submitted since its last run, in order;
        then ``done`` runs in the reactor with the same list and the error that ``process`` raised, or ``None``.
        After an error nothing more is processed."""

    def submit(item: Any, *, here: bool = False) -> None:
        """Add an item, and return at once where ``here`` is false.

        :param here: the caller can wait a moment: where nothing is under way, and such work has been quick lately, the
            worker may process the item and call ``done`` before this returns.
        """

    def stop() -> Deferred[None]:
        """Fire once everything submitted has been processed and reported; the worker can be started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What the disk held at start.

    :ivar hard_state: the last one that was synced.
    :ivar snapshot: meta of the newest readable snapshot, or ``None``.
    :ivar entries: the end of the log, contiguous. The log may begin before the snapshot ends: some is kept for slow
        followers.
    :ivar first_previous_term: term of the entry just before ``entries[0]``, 0 where that is none.
    :ivar on_disk: the log in front of ``entries``, which was not loaded; ``None`` where that is nothing.
    :ivar is_new: whether the directory had never been used.
    :ivar lost_term: entries that were acknowledged in terms up to this may be missing, where the log has none of a
        later one; 0 for none.
    """

    hard_state: HardState
    snapshot: SnapshotMeta | None
    entries: Sequence[Entry]
    first_previous_term: int
    is_new: bool
    on_disk: OnDisk | None = None
    lost_term: int = 0

    @property
    def terms(self) -> TermRuns:
        """The terms of all entries of the log; where it is empty it goes on behind the snapshot."""
        if self.on_disk is not None:
            terms = self.on_disk.terms.copy()
        elif self.entries:
            terms = TermRuns(self.entries[0].index - 1, self.first_previous_term)
        elif self.snapshot is not None:
            terms = TermRuns(self.snapshot.index, self.snapshot.term)
        else:
            terms = TermRuns()
        for entry in self.entries:
            terms.append(entry.term)
        return terms

    @property
    def configurations(self) -> Sequence[Entry]:
        """All entries of the log that hold a configuration, in order."""
        earlier = self.on_disk.configurations if self.on_disk is not None else ()
        return [*earlier, *(entry for entry in self.entries if entry.kind is EntryKind.CONFIGURATION)]


class IStorage(Interface):
    """The durable log and hard state."""

    def recover() -> Recovered:
        """Read everything back; blocks, called once, before :meth:`write`.

        :raises raftkv.errors.CorruptData: there is damage that must not be cut."""

    def start(durable: Callable[[int], None], failed: Callable[[BaseException], None]) -> None:
        """Begin to accept writes. ``durable(write_id)`` runs in the reactor, in order; it may skip ids (the largest
        one stands for those before). ``failed`` runs at most once, and the process must stop then."""

    def write(write: Write, *, may_wait: bool = False) -> None:
        """Queue a write, and return at once where ``may_wait`` is false.

        :param may_wait: the caller has nothing better to do than to wait for a disk that is quick: ``durable``, or
            ``failed``, may then be called before this returns.
        """

    def read(start: int, stop: int, max_bytes: int, done: Callable[[Sequence[Entry]], None]) -> None:
        """Read back entries with ``start <= index < stop``, as many as fit in ``max_bytes``, at least one of them.

        All of them have been reported durable. ``done`` is called in the reactor, later: with nothing where the log
        does not hold the first of them any more. It may never be called, if the disk fails or storage stops."""

    def compact(index: int) -> None:
        """Queue: entries up to and including ``index`` are no longer needed. Call only once a snapshot that covers
        them is on disk."""

    def snapshot_taken(index: int) -> None:
        """A snapshot of our own up to ``index`` is on disk: :meth:`log_bytes` counts from there. Nothing is removed:
        :meth:`compact` does that, usually up to a smaller index."""

    def log_bytes() -> int:
        """Return the bytes of log behind the newest snapshot, as queued (not as synced), or a little more."""

    def room_bytes() -> int:
        """Return how much the log can take without more of the disk than it has.

        Less than nothing where what is queued needs more than that. May be called by any thread.
        """

    def log_bytes_behind(index: int) -> int:
        """Return the bytes of log behind an entry, likewise; of what the log still holds."""

    def stop() -> Deferred[None]:
        """Fire once everything queued is durable and the files are closed."""


# -- the network between members ------------------------------------------------------------------------------------


class IPeerReceiver(Interface):
    """What the driver lets the transport call."""

    def received(messages: Sequence[Message]) -> None:
        """Messages of other members arrived: all that came together, in their order."""

    def peer_unreachable(peer: str) -> None:
        """The connection to a member broke or a message to it was dropped."""

    def peer_closed(peer: str) -> None:
        """A member has closed its connections to this node, all of them: its process has ended, most probably.

        Not told of connections that this node has closed, that have timed out, or that never were good.
        """

    def snapshot_sent(peer: str, index: int, delivered: bool) -> None:
        """The transfer of a snapshot ended."""


class IPeerTransport(Interface):
    """Carries messages to other members; may lose, and never blocks."""

    def start(receiver: IPeerReceiver) -> None:
        """Begin to deliver."""

    def send(messages: Sequence[Message]) -> None:
        """Send each to its ``to``. Messages of one destination keep their order while its connection lasts."""

    def set_members(configuration: Configuration) -> None:
        """Connect to exactly the members of this configuration (but oneself)."""

    def leave() -> None:
        """Talk to nobody any more: this node is no member. Nothing is delivered or sent after that."""

    def send_snapshot(peer: str) -> None:
        """Send the newest snapshot file over a connection of its own, then call ``snapshot_sent``."""

    def known_peers() -> Mapping[str, Identity]:
        """Return what each peer last said of itself, by member id."""


# -- the store as the interfaces see it --------------------------------------------------------------------------------


class IKeyValue(Interface):
    """The replicated store, as HTTP and RPC use it. Any node answers: it forwards to the leader itself."""

    def write(
        commands: Sequence[Command], done: Callable[[Sequence[Result] | RaftKVError], None], *, forwarded: bool = False
    ) -> None:
        """Replicate commands, kept together in one log entry, and answer with one result for each.

        :param done: gets the results in order, or the one error that befell all of them.
        :param forwarded: another node sent this here; it is never forwarded a second time (B64).
        """

    def acquire(command: Command, done: Callable[[Result | RaftKVError], None]) -> Callable[[], None]:
        """Have a lock taken, waiting in its queue for as long as the command says.

        :param command: a ``LOCK``: alone or in a session, fenced or not.
        :param done: gets its answer, which is never that it waits: ``(OK, token, lease, ticket)``, ``(LOCK_HELD,
            token)`` once the wait is over, and what else it may be; or the error that befell it.
        :return: to be called if nobody is there any more to be answered. The place in the queue is given up then, or
            the lock, unless a repeat of the request in its session could still hear of it; ``done`` is not called.
        """

    def barrier(
        consistency: Consistency,
        done: Callable[[RaftKVError | None], None],
        *,
        max_stale_seconds: float | None = None,
    ) -> None:
        """Wait until this node's own state may be read with that consistency.

        :param done: called with ``None`` when it may: read in this very call; or with the error.
        :param max_stale_seconds: for ``stale`` only: the state must hold everything that was committed so long ago.
            Where it is not known to, the leader is asked, as for a lease read. ``None`` for whatever is at hand.
        """

    def at_turn_end(call: Callable[[], None]) -> bool:
        """Call this when everything has been answered that is answered together, if that is going on at the moment:
        what is sent then leaves at once, and in one piece.

        :return: whether it is; nothing will be called where it is not."""

    def staleness() -> float | None:
        """Return how long ago, at the most, the last moment is of which this node's own state holds all that was
        committed then, in seconds; ``None`` where that is not known. Call it where the state is read."""

    def get(key: bytes) -> Record | None:
        """Return a record of this node's own state; call it from ``done`` of a :meth:`barrier`."""

    def scan(start: bytes, end: bytes | None, limit: int) -> Iterator[tuple[bytes, Record]]:
        """Yield up to ``limit`` records with ``start <= key`` and, unless ``end`` is ``None``, ``key < end``, in
        key order, of this node's own state."""

    def revision() -> int:
        """Return the revision of this node's own state."""

    def state() -> Store:
        """Return this node's own state, for reads of any kind; call it from ``done`` of a :meth:`barrier`.

        Do not keep it: a snapshot that is restored takes its place as a whole."""

    def watch(request: WatchRequest, receiver: WatchReceiver) -> IWatch:
        """Return a watch of this node's own state, which is then to be begun: ``receiver`` is told what changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leadership:
    """What the headers of every HTTP answer say.

    :ivar node_id: this node.
    :ivar term: its current term.
    :ivar leader: id of the leader, or ``None``.
    :ivar leader_http_addr: where its HTTP server is, empty where unknown.
    :ivar leader_rpc_addr: where its RPC server is, empty where unknown.
    :ivar is_leader: whether it is this node.
    """

    node_id: str
    term: int
    leader: str | None
    leader_http_addr: str
    leader_rpc_addr: str
    is_leader: bool


class INode(Interface):
    """A node as operators see it."""

    def leadership() -> Leadership:
        """Return who leads; cheap, called for every request."""

    def status() -> dict[str, Any]:
        """Return the JSON object of ``GET /v1/status``."""

    def cluster() -> Deferred[dict[str, Any]]:
        """Fire with the JSON object of ``GET /v1/cluster``; a follower asks the leader, and where there is none
        gives what it knows with ``None`` for the rest."""

    def local_cluster() -> dict[str, Any]:
        """Return the same as far as this node knows it, without asking anybody."""

    def change_members(document: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """Change the members as the body of ``POST /v1/cluster/members`` says; any node passes it to the leader.

        Fires with the cluster as the leader sees it, once the change is committed."""

    def transfer_leadership(document: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """Hand leadership to the member ``"to"``, or to the one that is the furthest; fires with ``{"leader", "term"}``
        once another one leads."""

    def is_ready() -> tuple[bool, str]:
        """Tell whether the node knows a leader and has caught up, and if not, what is missing."""

    def counters() -> Mapping[str, float]:
        """Return counts for the metrics, by name (such as ``proposals``, ``applied_commands``): monotonic, but for
        ``watchers``."""


class IBackup(Interface):
    """A snapshot that is being read as a backup; it stays whole until it is closed, however old it gets."""

    facts = Attribute("What it is: the JSON object that describes it, with index, term, revision, bytes, checksum.")

    def read(offset: int, length: int) -> Deferred[bytes]:
        """Fire with bytes of the file as it is, fewer only at its end; fails with a
        :exc:`raftkv.errors.RaftKVError` where it is not to be given away any more."""

    def close() -> None:
        """Let go of it; closing twice is allowed."""


class IBackups(Interface):
    """The snapshots of one node, as operators take and fetch them."""

    def take(consistency: Consistency) -> Deferred[dict[str, Any]]:
        """Take a snapshot of this node's state, and fire with what it is once it is on disk and has been read back.

        :param consistency: what the state must hold, as for a read. Where the newest snapshot holds as much, it is
            looked through, and told in place of another one."""

    def list() -> Deferred[list[dict[str, Any]]]:
        """Fire with what each snapshot is, the newest first; their ends have been checked."""

    def open(consistency: Consistency | None) -> Deferred[IBackup]:
        """Fire with the newest snapshot, of which every byte has been checked.

        :param consistency: take one of the present state first, as :meth:`take`; ``None`` for one that is there, and
            only where there is none take one."""

    def open_again(checksum: str) -> Deferred[IBackup | None]:
        """Fire with a snapshot that was opened before, for the rest of it; ``None`` where it is gone."""

    def archive() -> Deferred[dict[str, Any]]:
        """Archive everything that is committed now; fires with how far the archive is once that is done."""


class IForwarder(Interface):
    """Carries requests to another node's RPC port."""

    def write(
        rpc_addr: str, commands: Sequence[Command], done: Callable[[Sequence[Result] | RaftKVError], None]
    ) -> None:
        """Send a write to the leader, marked as forwarded. A connection that breaks in between is
        :exc:`raftkv.errors.OutcomeUnknown`; one that could not be made is :exc:`raftkv.errors.NoLeader`."""

    def call(rpc_addr: str, name: str, arguments: Mapping[str, Any]) -> Deferred[Any]:
        """Ask another node for something rare (``"cluster"``): fires with a value that msgpack can carry, or fails
        with a :exc:`raftkv.errors.RaftKVError`."""

    def stop() -> Deferred[None]:
        """Close every connection."""
