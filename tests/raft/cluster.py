"""A cluster of bare cores for tests: an in-memory network and disks whose every step the test decides.

Runs beside the nodes the checkers of Figure 3: election safety, log matching, leader completeness and state machine
safety; and that what is committed was on a majority of disks, and that no read index is too old.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from raftkv.raft import quorum
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.log import entry_size
from raftkv.raft.messages import Entry, EntryKind, HardState, InstallSnapshot, Message, SnapshotMeta
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import EntriesWanted, Role, Write
from raftkv.raft.settings import RaftSettings
from raftkv.raft.terms import OnDisk, TermRuns


def configuration(*voters: str, learners: Sequence[str] = (), outgoing: Sequence[str] = ()) -> Configuration:
    """Make a configuration in which each member's incarnation is its name in capitals."""
    names = sorted({*voters, *learners, *outgoing})
    return Configuration(
        members={name: Member(id=name, incarnation=name.upper(), raft_addr=f"{name}:1") for name in names},
        voters=frozenset(voters),
        outgoing_voters=frozenset(outgoing),
        learners=frozenset(learners),
    )


def entry(index: int, term: int, payload: bytes = b"", kind: EntryKind = EntryKind.COMMANDS) -> Entry:
    """Make an entry."""
    return Entry(index=index, term=term, kind=kind, payload=payload)


def log_of(*terms: int) -> tuple[Entry, ...]:
    """Make a log from the terms of its entries, from index 1 on."""
    return tuple(entry(index, term, b"%d.%d" % (term, index)) for index, term in enumerate(terms, 1))


def make_node(
    name: str = "a",
    *,
    members: Configuration | None = None,
    term: int = 0,
    voted_for: str | None = None,
    entries: Sequence[Entry] = (),
    snapshot: SnapshotMeta | None = None,
    first_previous_term: int = 0,
    seed: int = 1,
    incarnation: str | None = None,
    on_disk: OnDisk | None = None,
    joined: bool = False,
    lost_term: int = 0,
    **settings: int,
) -> RaftNode:
    """Make a node with what its disk holds."""
    return RaftNode(
        node_id=name,
        incarnation=name.upper() if incarnation is None else incarnation,
        settings=RaftSettings(**settings),
        random=random.Random(seed),
        hard_state=HardState(term=term, voted_for=voted_for),
        snapshot=snapshot,
        entries=entries,
        first_previous_term=first_previous_term,
        configuration=members or configuration("a", "b", "c"),
        on_disk=on_disk,
        joined=joined,
        lost_term=lost_term,
    )


class MemoryDisk:
    """What one server's disk holds, as the contract of ``Write`` says."""

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.snapshot: SnapshotMeta | None = None
        self.entries: list[Entry] = []
        self.previous = (0, 0)  # index and term of the entry before the first one

    def term_at(self, index: int) -> int | None:
        if index == self.previous[0]:
            return self.previous[1]
        position = index - self.previous[0] - 1
        return self.entries[position].term if 0 <= position < len(self.entries) else None

    def covers(self, index: int, term: int) -> bool:
        """Tell whether the disk holds an entry, in the log or in a snapshot."""
        return self.term_at(index) == term or (self.snapshot is not None and index <= self.snapshot.index)

    def write(self, write: Write) -> None:
        if write.hard_state is not None:
            self.hard_state = write.hard_state
        if write.snapshot is not None:
            if self.term_at(write.snapshot.index) == write.snapshot.term:
                self.compact(write.snapshot.index)
            else:
                self.entries = []
            self.snapshot = write.snapshot
            self.previous = (write.snapshot.index, write.snapshot.term)
        if write.entries:
            keep = write.entries[0].index - self.previous[0] - 1
            if not 0 <= keep <= len(self.entries):
                raise AssertionError(f"a write at {write.entries[0].index} leaves a gap behind {self.previous}")
            self.entries[keep:] = write.entries

    def read(self, wanted: EntriesWanted) -> list[Entry]:
        """Return what the answer to a question is at this moment."""
        begin = wanted.start - self.previous[0] - 1
        found: list[Entry] = []
        if begin >= 0:
            room = wanted.max_bytes
            for one in self.entries[begin : begin + wanted.stop - wanted.start]:
                room -= entry_size(one)
                if found and room < 0:
                    break
                found.append(one)
        return found

    def load(self, cache_bytes: int) -> tuple[list[Entry], OnDisk | None]:
        """Return the end of the log that fits in memory, and what is in front of it."""
        count, room = 0, cache_bytes
        for one in reversed(self.entries):
            room -= entry_size(one)
            if room < 0:
                break
            count += 1
        split = len(self.entries) - count
        terms = TermRuns(*self.previous)
        for one in self.entries[:split]:
            terms.append(one.term)
        configurations = [one for one in self.entries[:split] if one.kind is EntryKind.CONFIGURATION]
        return self.entries[split:], OnDisk(terms=terms, configurations=configurations) if split else None

    def reconcile(self, snapshot: SnapshotMeta | None) -> None:
        """Make log and term agree with a snapshot whose file was on disk before the crash, but not its write."""
        if snapshot is None:
            return
        if self.term_at(snapshot.index) != snapshot.term:
            self.write(Write(write_id=0, snapshot=snapshot))
        if snapshot.term > self.hard_state.term:
            self.hard_state = HardState(term=snapshot.term)

    def compact(self, index: int) -> None:
        drop = index - self.previous[0]
        if 0 < drop <= len(self.entries):
            self.previous = (index, self.entries[drop - 1].term)
            del self.entries[:drop]


class Server:
    """One server: its core while it runs, its disk, and its state machine, which is the list of what was applied."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.disk = MemoryDisk()
        self.node: RaftNode | None = None
        self.writes: deque[Write] = deque()
        self.applied: list[Entry] = []
        self.snapshot: tuple[SnapshotMeta, list[Entry]] | None = None  # the newest file, on disk
        self.incoming: dict[int, list[Entry]] = {}  # files that have arrived, by index
        self.questions: deque[EntriesWanted] = deque()  # to the disk, about entries that are not in memory
        self.reads: dict[int, int | None] = {}
        self.events: list[str] = []


class Cluster:
    """Servers, the messages between them, and the checkers.

    :ivar network: what is under way, in the order in which it was sent.
    :ivar cut: pairs (sender, to) that lose everything.
    :ivar snapshots_due: pairs (leader, peer) for which a snapshot is to be sent.
    """

    def __init__(
        self, *names: str, members: Configuration | None = None, seed: int = 1, heard: Any = None, **settings: int
    ) -> None:
        self.initial = members or configuration(*names)
        self.settings = settings
        self.seed = seed
        self.network: list[Message] = []
        self.cut: set[tuple[str, str]] = set()
        self.snapshots_due: list[tuple[str, str]] = []
        self.servers = {name: Server(name) for name in names}
        self.on_ready: Callable[[str, Any], None] = heard or (lambda name, ready: None)
        self._starts = 0
        self._leaders: dict[int, str] = {}
        self._written: dict[tuple[int, int], tuple[Entry, int | None]] = {}
        self.committed: dict[int, Entry] = {}
        self.max_committed = 0
        self._reads: dict[tuple[str, int], int] = {}
        self._next_read = 0
        for name in names:
            self.start(name)

    def add(self, name: str, disk: MemoryDisk | None) -> None:
        """Start one more server."""
        self.servers[name] = Server(name)
        self.servers[name].disk = disk or MemoryDisk()
        self.start(name)

    def __getitem__(self, name: str) -> RaftNode:
        node = self.servers[name].node
        assert node is not None, f"{name} is down"
        return node

    @property
    def running(self) -> list[str]:
        return [name for name, server in self.servers.items() if server.node is not None]

    # -- life and death ----------------------------------------------------------------------------------------------

    def start(self, name: str) -> RaftNode:
        server = self.servers[name]
        self._starts += 1
        disk = server.disk
        snapshot = server.snapshot[0] if server.snapshot else None
        disk.reconcile(snapshot)
        server.applied = list(server.snapshot[1]) if server.snapshot else []
        settings = RaftSettings(**self.settings)
        entries, on_disk = disk.load(settings.log_cache_bytes)
        server.node = RaftNode(
            node_id=name,
            incarnation=name.upper(),
            settings=settings,
            random=random.Random(self.seed * 1000 + self._starts),
            hard_state=disk.hard_state,
            snapshot=snapshot,
            entries=tuple(entries),
            first_previous_term=disk.previous[1] if entries and on_disk is None else 0,
            on_disk=on_disk,
            configuration=self.initial,
        )
        self.drain(name)
        return server.node

    def crash(self, name: str) -> None:
        """Stop a server; writes that are not finished are lost."""
        server = self.servers[name]
        server.node = None
        server.writes.clear()
        server.questions.clear()
        server.incoming.clear()

    def restart(self, name: str) -> None:
        self.crash(name)
        self.start(name)

    # -- one step of one server --------------------------------------------------------------------------------------

    def do(self, name: str, action: Callable[[RaftNode], Any]) -> Any:
        """Do something to a node and carry out what it then wants."""
        result = action(self[name])
        self.drain(name)
        return result

    def drain(self, name: str) -> None:
        server, node = self.servers[name], self[name]
        for _ in range(100):
            if not node.has_ready():
                return
            ready = node.take_ready()
            self.network.extend(ready.messages)
            self.snapshots_due.extend((name, peer) for peer in ready.send_snapshots)
            if ready.write is not None:
                server.writes.append(ready.write)
                if ready.write.snapshot is not None:
                    self._install(server, ready.write.snapshot)
            for committed in ready.committed:
                self._apply(server, committed)
            server.questions.extend(ready.entries_wanted)
            for read in ready.reads:
                server.reads[read.context] = read.index
                asked = self._reads.pop((name, read.context), 0)
                if read.index is not None and read.index < asked:
                    raise AssertionError(f"{name} was given read index {read.index}, but {asked} was committed")
            server.events.extend(ready.events)
            self._check(server)
            self.on_ready(name, ready)
        raise AssertionError(f"{name} never comes to rest")

    def read_back(self, name: str) -> None:
        """Let the disk answer the oldest question of a server."""
        server = self.servers[name]
        wanted = server.questions.popleft()
        self.do(name, lambda node: node.entries_read(wanted, server.disk.read(wanted)))

    def finish_write(self, name: str) -> None:
        """Let the oldest write of a server reach its disk."""
        server = self.servers[name]
        write = server.writes.popleft()
        server.disk.write(write)
        self.do(name, lambda node: node.advance(write.write_id))

    def finish_writes(self, name: str) -> None:
        while self.servers[name].writes:
            self.finish_write(name)

    def deliver(self, message: Message) -> None:
        if self.servers[message.to].node is not None and (message.sender, message.to) not in self.cut:
            self.do(message.to, lambda node: node.step(message))

    def tick(self, *names: str, count: int = 1) -> None:
        for _ in range(count):
            for name in names or self.running:
                self.do(name, RaftNode.tick)

    def read(self, name: str) -> int:
        """Ask for a read index; the checkers look at what comes."""
        self._next_read += 1
        context = self._next_read
        self._reads[name, context] = self.max_committed
        self.do(name, lambda node: node.read_index(context))
        return context

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def take_snapshot(self, name: str, *, keep: int = 0) -> int:
        """Take a snapshot of what was applied and is on the own disk, and compact but for the last ``keep``."""
        server, node = self.servers[name], self[name]
        index = min(node.last_applied, node.stable_index)
        term = node.term_at(index)
        if index <= node.snapshot_index or term is None:
            return node.snapshot_index
        members, members_index = node.committed_configuration(index)
        meta = SnapshotMeta(index=index, term=term, configuration=members, configuration_index=members_index)
        server.snapshot = (meta, server.applied[:index])
        node.snapshot_taken(index)
        node.compact(index - keep)
        server.disk.compact(index - keep)
        return index

    def send_snapshot(self, leader: str, peer: str, *, arrives: bool = True) -> None:
        """Carry the newest snapshot of a server to a peer."""
        snapshot = self.servers[leader].snapshot
        assert snapshot is not None
        meta, state = snapshot
        delivered = arrives and self.servers[peer].node is not None and (leader, peer) not in self.cut
        if delivered:
            server = self.servers[peer]
            if meta.index > (server.snapshot[0].index if server.snapshot else 0):
                server.incoming[meta.index] = state
            term = self[leader].current_term
            self.do(peer, lambda node: node.step(InstallSnapshot(term=term, sender=leader, to=peer, snapshot=meta)))
        self.do(leader, lambda node: node.report_snapshot(peer, meta.index, delivered))

    def _install(self, server: Server, meta: SnapshotMeta) -> None:
        state = server.incoming.pop(meta.index, None)
        if state is not None:
            server.snapshot = (meta, state)  # the file is on disk before the core hears of it
        assert server.snapshot is not None
        server.applied = list(server.snapshot[1])

    # -- until nothing moves ------------------------------------------------------------------------------------------

    def settle(self, *, disks: Iterable[str] | None = None) -> None:
        """Deliver and write until nothing is left.

        :param disks: servers whose disk works; all of them by default.
        """
        for _ in range(100_000):
            if not self.settle_one(disks=disks):
                return
        raise AssertionError("the cluster never comes to rest")

    def settle_one(self, *, disks: Iterable[str] | None = None) -> bool:
        """Do the next of what :meth:`settle` does; return whether there was anything."""
        if self.network:
            self.deliver(self.network.pop(0))
        elif busy := [n for n in (self.running if disks is None else disks) if self.servers[n].writes]:
            self.finish_write(busy[0])
        elif asking := [name for name in self.running if self.servers[name].questions]:
            self.read_back(asking[0])
        elif self.snapshots_due:
            self.send_snapshot(*self.snapshots_due.pop(0))
        else:
            return False
        return True

    def elect(self, name: str) -> None:
        """Make a server the leader, in an orderly manner."""
        for other in self.running:
            if other != name:
                self.tick(other, count=2 * RaftSettings(**self.settings).election_ticks)
                self.network.clear()
        self.do(name, RaftNode.campaign)
        self.settle()
        assert self[name].role is Role.LEADER, f"{name} is {self[name].role}"

    def isolate(self, *names: str) -> None:
        """Cut the links between these servers and all others."""
        for one in names:
            for other in self.servers.keys() - set(names):
                self.cut |= {(one, other), (other, one)}

    def heal(self) -> None:
        self.cut.clear()

    def propose(self, name: str, payload: bytes) -> Entry:
        made: Entry = self.do(name, lambda node: node.propose(payload))
        return made

    # -- Figure 3 -----------------------------------------------------------------------------------------------------

    def _apply(self, server: Server, committed: Entry) -> None:
        if committed.index != len(server.applied) + 1:
            raise AssertionError(f"{server.name} applies {committed.index} after {len(server.applied)}")
        server.applied.append(committed)
        self.check_committed(server.name, committed)

    def check_committed(self, name: str, committed: Entry) -> None:
        """State Machine Safety: no two servers apply different entries at one index."""
        known = self.committed.setdefault(committed.index, committed)
        if known != committed:
            raise AssertionError(f"{name} applies {committed} where others applied {known}")
        self.max_committed = max(self.max_committed, committed.index)

    def _check(self, server: Server) -> None:
        node = server.node
        assert node is not None
        if not node.last_applied <= node.commit_index <= node.last_index:
            raise AssertionError(f"{server.name}: {node.last_applied=} {node.commit_index=} {node.last_index=}")
        for write in server.writes:
            self._check_matching(server, write)
        if node.role is Role.LEADER:
            self._check_leader(server, node)

    def _check_matching(self, server: Server, write: Write) -> None:
        """Log Matching: an entry of one index and term is one entry, and so is the one before it."""
        for made in write.entries:
            before = self.servers[server.name].node.term_at(made.index - 1)  # type: ignore[union-attr]
            known, known_before = self._written.setdefault((made.index, made.term), (made, before))
            current = self.servers[server.name].node.term_at(made.index)  # type: ignore[union-attr]
            if known != made or (
                current == made.term and None not in (before, known_before) and before != known_before
            ):
                raise AssertionError(f"{server.name} has {made} behind term {before}; others behind {known_before}")

    def _check_leader(self, server: Server, node: RaftNode) -> None:
        """Election Safety, Leader Completeness, and that a majority of disks holds what is committed."""
        if self._leaders.setdefault(node.current_term, server.name) != server.name:
            raise AssertionError(f"term {node.current_term} has {server.name} and {self._leaders[node.current_term]}")
        last = self.committed.get(self.max_committed)
        if last is not None and last.term < node.current_term and node.term_at(last.index) not in (None, last.term):
            raise AssertionError(f"leader {server.name} lacks {last}, which is committed")
        if last is not None and last.term < node.current_term and node.last_index < last.index:
            raise AssertionError(f"leader {server.name} ends before {last}, which is committed")
        index, term = node.commit_index, node.term_at(node.commit_index)
        if term == node.current_term:
            holders = [name for name, other in self.servers.items() if other.disk.covers(index, term)]
            # A change may be appended since: the majority that committed is one of either configuration.
            sides = [node.configuration, node.committed_configuration()[0]]
            if not any(quorum.has_quorum(side.voters, side.outgoing_voters, holders) for side in sides):
                raise AssertionError(f"{server.name} committed {index} of term {term}; on the disks of {holders} only")


def renamed(members: Configuration, **changes: Any) -> Configuration:
    """Return a configuration with some of its fields replaced."""
    return replace(members, **changes)
