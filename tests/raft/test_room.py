"""Disks without room: who leads then, what is still appended, and what the leader spares its followers (B50)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import DiskFull, ProposalDropped
from raftkv.raft.log import entry_size
from raftkv.raft.messages import AppendEntries, AppendEntriesResponse, Entry, EntryKind, Heartbeat, HeartbeatResponse
from raftkv.raft.ready import Role
from raftkv.raft.room import DiskRoom, LogRoom, Room
from tests.raft.cluster import Cluster, entry, log_of, make_node
from tests.raft.test_paper import append_entries, persisted, taken

ELECTION_TICKS = 10
GIB, MIB = 1 << 30, 1 << 20


class DiskRoomTests(SynchronousTestCase):
    """What fits into a budget."""

    def setUp(self) -> None:
        self.room = DiskRoom()
        self.entries = [entry(index, 1, bytes(100)) for index in range(1, 6)]

    def spend(self, entries: Sequence[Entry]) -> None:
        self.room.spend(entries, sum(map(entry_size, entries)))

    def test_room(self) -> None:
        """Where nobody has said how much room there is everything fits, and nothing is counted."""
        for level in (Room.AMPLE, Room.SCARCE):
            self.room.note(level, None)
            self.spend(self.entries)
            self.assertEqual(len(self.room.fitting(self.entries)), 5)
            self.assertTrue(self.room.fits(1 << 40))

    def test_budget(self) -> None:
        """As many entries fit as the budget has bytes for, at every level, and what was appended is taken off it."""
        for level in Room:
            self.check_budget(level)

    def check_budget(self, level: Room) -> None:
        self.room.note(level, LogRoom.of_bytes(600))
        self.assertEqual(len(self.room.fitting(self.entries)), 3)
        self.spend(self.entries[:2])
        self.assertEqual(len(self.room.fitting(self.entries[2:])), 1)
        self.assertTrue(self.room.fits(100))
        self.assertFalse(self.room.fits(113))
        self.spend(self.entries[:2])
        self.assertEqual(len(self.room.fitting(self.entries)), 0)
        self.room.note(level, LogRoom.of_bytes(400))
        self.assertEqual(len(self.room.fitting(self.entries)), 2)

    def test_told(self) -> None:
        """Only a change of the level is news."""
        told = [self.room.note(level, None) for level in (Room.AMPLE, Room.NONE, Room.NONE, Room.SCARCE)]
        self.assertEqual(told, [False, True, False, True])


class LogRoomTests(SynchronousTestCase):
    """Segments of 4,096 bytes, of which a batch of up to 1,024 may leave the end empty."""

    def test_ordinary(self) -> None:
        """An entry that does not fit into the segment takes a whole one, however small it is."""
        room = LogRoom(300, 4096, 4096, 1024).without(104)
        self.assertEqual((room.begun_bytes, room.more_bytes), (100, 4096))
        room = room.without(104)
        self.assertEqual((room.begun_bytes, room.more_bytes), (4096 - 512 - 1024 - 100, 0))
        self.assertFalse(room.is_exceeded)
        self.assertTrue(room.without(900).without(900).without(900).is_exceeded)

    def test_large(self) -> None:
        """An entry that is larger than a batch takes a segment of its own that is larger by it, whatever is left of the
        one before."""
        self.assertFalse(LogRoom(4000, 7000, 4096, 1024).without(2000).is_exceeded)
        room = LogRoom(4000, 7000, 4096, 1024).without(2000)
        self.assertEqual((room.begun_bytes, room.more_bytes), (4096, 7000 - 4096 - 512 - 2096))
        self.assertTrue(LogRoom(4000, 6703, 4096, 1024).without(2000).is_exceeded)

    def test_behind_what_waits(self) -> None:
        """What waits to be written takes its segments first."""
        room = LogRoom(-3000, 8192, 4096, 1024).without_bytes(0)
        self.assertEqual((room.begun_bytes, room.more_bytes), (2 * 2560 - 3000, 0))
        self.assertTrue(LogRoom(-3000, 8191, 4096, 1024).without_bytes(0).is_exceeded)


class LookTests(SynchronousTestCase):
    """What is appended while somebody looks at the disk, and where so much is found that nothing is counted."""

    def setUp(self) -> None:
        self.room = DiskRoom()
        self.entry = entry(1, 1, bytes(904))  # a thousand bytes on the disk

    def append(self, count: int = 1) -> None:
        self.room.spend([self.entry] * count, count * entry_size(self.entry))

    def fitting(self) -> int:
        return len(self.room.fitting([self.entry] * 100))

    def test_taken_meanwhile(self) -> None:
        """What was not yet given to the disk when a look began, and what was appended since, is taken off what it
        found; what is told without a look is as it is."""
        self.room.note(Room.AMPLE, LogRoom.of_bytes(50_000))
        self.append(7)
        self.room.begin_look([self.entry] * 2)
        self.append(3)
        self.room.note(Room.AMPLE, LogRoom.of_bytes(50_000))
        self.assertEqual(self.fitting(), 45)
        self.append(7)
        self.room.note(Room.AMPLE, LogRoom.of_bytes(50_000))
        self.assertEqual(self.fitting(), 50)

    def test_first_look(self) -> None:
        """What was appended uncounted while a look was under way is taken off many times over."""
        self.room.begin_look([])
        self.append(3)
        self.room.note(Room.AMPLE, LogRoom(9500, 11 * 3 * 936, 4096, 1024))
        self.assertEqual(self.fitting(), 9)

    def test_wants_another(self) -> None:
        """Another look is wanted once half is used up, or where something does not fit, until somebody has looked."""
        self.room.note(Room.AMPLE, LogRoom.of_bytes(50_000))
        self.append(25)
        self.assertFalse(self.room.look_wanted)
        self.append()
        self.assertTrue(self.room.look_wanted)
        self.room.note(Room.AMPLE, LogRoom.of_bytes(50_000))
        self.assertFalse(self.room.look_wanted)
        self.assertEqual(self.fitting(), 50)
        self.assertTrue(self.room.look_wanted)
        self.room.note(Room.AMPLE, LogRoom.of_bytes(50_000))
        self.assertFalse(self.room.fits(50_000))
        self.assertTrue(self.room.look_wanted)

    def test_lacks(self) -> None:
        """What was held back is lacking where it does not fit into what a look found, and nothing was taken since."""
        self.room.note(Room.AMPLE, LogRoom.of_bytes(999))
        self.assertFalse(self.room.lacks(LogRoom.of_bytes(10)))
        self.assertEqual(self.fitting(), 0)
        self.assertTrue(self.room.lacks(LogRoom.of_bytes(999)))
        self.assertFalse(self.room.lacks(LogRoom.of_bytes(1000)))
        self.room.begin_look([])
        self.assertTrue(self.room.lacks(LogRoom.of_bytes(999)))
        self.room.spend([entry(1, 1, b"")], 32)
        self.assertFalse(self.room.lacks(LogRoom.of_bytes(999)))
        self.room.note(Room.AMPLE, LogRoom.of_bytes(999))
        self.assertFalse(self.room.lacks(LogRoom.of_bytes(10)))

    def test_a_leader_lacks(self) -> None:
        """What a leader refused for want of room is lacking as well."""
        self.room.note(Room.AMPLE, LogRoom.of_bytes(999))
        self.assertTrue(self.room.fits(900))
        self.assertFalse(self.room.lacks(LogRoom.of_bytes(10)))
        self.assertFalse(self.room.fits(904))
        self.assertTrue(self.room.lacks(LogRoom.of_bytes(999)))
        self.assertFalse(self.room.lacks(LogRoom.of_bytes(1000)))

    def test_plenty(self) -> None:
        """On a large disk nothing is counted one by one as long as what is left is many times what was taken."""
        self.room.note(Room.AMPLE, LogRoom(0, 100 * GIB, 64 * MIB, 8 * MIB))
        self.patch(LogRoom, "without", None)
        for _ in range(5):
            self.assertEqual(self.fitting(), 100)
            self.assertTrue(self.room.fits(MIB))
            self.room.spend([self.entry], GIB)
        self.assertFalse(self.room.look_wanted)

    def test_end_of_plenty(self) -> None:
        """Then everything is counted, and another look is wanted long before what was found is used up."""
        self.room.note(Room.AMPLE, LogRoom(0, 100 * GIB, 64 * MIB, 8 * MIB))
        while not self.room.look_wanted:
            self.room.spend([self.entry], 200 * MIB)
        self.assertEqual(self.fitting(), 100)
        large = entry(1, 1, bytes(64 * MIB))
        taken = 0
        while self.room.fits(64 * MIB) and taken < 100:
            self.room.spend([large], entry_size(large))
            taken += 1
        self.assertTrue(10 < taken < 60, f"{taken} of 64 MiB")


class FollowerTests(SynchronousTestCase):
    """A follower whose disk is full."""

    def setUp(self) -> None:
        self.node = make_node(entries=log_of(1, 1), term=1)
        self.node.note_room(Room.NONE, LogRoom.of_bytes(250))

    def answers(self) -> list[AppendEntriesResponse]:
        return [m for m in persisted(self.node) if isinstance(m, AppendEntriesResponse)]

    def test_acknowledges_what_fits(self) -> None:
        """It takes as many entries as fit and acknowledges these, and commits no further."""
        entries = tuple(entry(index, 1, bytes(10)) for index in (3, 4, 5, 6))
        self.node.step(append_entries(1, *entries, prev=(2, 1), commit=6))
        self.assertEqual([(answer.success, answer.match_index) for answer in self.answers()], [(True, 4)])
        self.assertEqual((self.node.last_index, self.node.commit_index), (4, 4))

    def test_truncates_for_something_only(self) -> None:
        """Conflicting entries stay where there is no room for what replaces them."""
        self.node.step(append_entries(2, entry(2, 2, bytes(500)), prev=(1, 1), commit=2))
        self.assertEqual([(answer.success, answer.match_index) for answer in self.answers()], [(True, 1)])
        self.assertEqual((self.node.last_index, self.node.term_at(2), self.node.commit_index), (2, 1, 1))

    def test_elections_go_on(self) -> None:
        """The first entry of a new leader, and configurations, are taken without any budget left: reads need them."""
        self.node.note_room(Room.NONE, LogRoom.of_bytes(0))
        self.node.step(append_entries(2, entry(3, 2, b"", EntryKind.NOOP), prev=(2, 1), commit=3))
        self.assertEqual(self.node.commit_index, 3)
        self.node.step(append_entries(2, entry(4, 2, b"x"), prev=(3, 2), commit=4))
        self.assertEqual(self.node.commit_index, 3)

    def test_overdrawn(self) -> None:
        """It knows when it has taken more than was found, as with entries that it must take in any case."""
        self.node.note_room(Room.NONE, LogRoom.of_bytes(96))
        for index, has_overdrawn in ((3, False), (4, True)):
            self.node.step(append_entries(2, entry(index, 2, b"", EntryKind.NOOP), prev=(index - 1, 1 + index // 4)))
            self.assertEqual((self.node.last_index, self.node.has_overdrawn), (index, has_overdrawn))

    def test_says_so(self) -> None:
        """Its answers to heartbeats tell the leader."""
        self.node.step(Heartbeat(term=1, sender="b", to="a", commit_index=0))
        (answer,) = (m for m in taken(self.node).messages if isinstance(m, HeartbeatResponse))
        self.assertEqual(answer.room, Room.NONE)


class ClusterTests(SynchronousTestCase):
    """Three servers, of which some have no room."""

    def setUp(self) -> None:
        self.cluster = Cluster("a", "b", "c", election_ticks=ELECTION_TICKS)
        self.cluster.elect("a")

    def live(self, ticks: int) -> None:
        for _ in range(ticks):
            self.cluster.tick()
            self.cluster.settle()

    def note(self, room: Room, *names: str, budget_bytes: int = 0) -> None:
        budget = LogRoom.of_bytes(budget_bytes) if room is Room.NONE else None
        for name in names:
            self.cluster.do(name, lambda node: node.note_room(room, budget))

    def fill(self, *names: str, budget_bytes: int = 0) -> None:
        self.note(Room.NONE, *names, budget_bytes=budget_bytes)
        self.live(2)

    # -- who leads ---------------------------------------------------------------------------------------------------

    def test_hands_over(self) -> None:
        """A leader whose disk is nearly full hands leadership over while it still works."""
        self.note(Room.SCARCE, "a")
        self.assertTrue(self.cluster["a"].disk_lacks_room)
        self.live(3)
        self.assertEqual((self.cluster["a"].role, self.cluster["b"].role), (Role.FOLLOWER, Role.LEADER))
        self.assertEqual(self.cluster["b"].current_term, 2)

    def test_nobody_has_more(self) -> None:
        """Where nobody has more room leadership stays where it is."""
        self.note(Room.SCARCE, "a", "b", "c")
        self.live(10 * ELECTION_TICKS)
        self.assertEqual((self.cluster["a"].role, self.cluster["a"].current_term), (Role.LEADER, 1))
        self.cluster.propose("a", b"x")
        self.live(1)
        self.assertEqual(self.cluster["c"].commit_index, 2)

    def test_full_gives_way_to_nearly_full(self) -> None:
        """A leader whose disk is full hands over to one whose disk is nearly full, as soon as it knows of it."""
        self.note(Room.SCARCE, "a", "b")
        self.note(Room.NONE, "c")
        self.live(3)
        self.assertIs(self.cluster["a"].role, Role.LEADER)
        self.fill("a")
        self.live(2)
        self.assertIs(self.cluster["b"].role, Role.LEADER)

    def test_who_is_cut_off_is_not_asked(self) -> None:
        """Nobody hands over to a server that has not been heard for an election timeout, whatever it said before."""
        self.live(2)
        self.cluster.crash("b")
        self.note(Room.SCARCE, "c")
        self.live(ELECTION_TICKS)
        self.note(Room.SCARCE, "a")
        self.live(3)
        self.assertIs(self.cluster["a"].role, Role.LEADER)
        self.assertIsNone(self.cluster["a"].transferring_to)

    def test_one_attempt(self) -> None:
        """A successor that never catches up is tried once: writes wait for it, and are refused from then on."""
        leader = self.cluster["a"]
        self.note(Room.SCARCE, "c")
        self.live(2)
        held_back = 0
        self.cluster.propose("a", b"x")
        self.note(Room.NONE, "a", budget_bytes=10_000)
        self.assertFalse(leader.cluster_lacks_room)
        self.assertRaises(ProposalDropped, leader.propose, b"x")
        self.assertEqual(leader.transferring_to, "b")
        for _ in range(4 * ELECTION_TICKS):
            self.cluster.tick()
            self.cluster.settle(disks="ac")
            held_back += leader.transferring_to is not None
        self.assertIs(leader.role, Role.LEADER)
        self.assertTrue(0 < held_back <= ELECTION_TICKS)
        self.assertTrue(leader.cluster_lacks_room)
        self.assertRaises(DiskFull, leader.propose, b"y")
        leader.propose(b"z", needs_room=False)

    def test_hesitates(self) -> None:
        """The less room a server has the later it campaigns, whatever the draw of time-outs."""
        for seed in range(20):
            cluster = self.cluster = Cluster("a", "b", "c", election_ticks=ELECTION_TICKS, seed=seed)
            levels = [Room.NONE, random.Random(seed).choice((Room.SCARCE, Room.NONE))]
            for name, level in zip("ab", levels, strict=True):
                self.note(level, name)
            self.live(2 * ELECTION_TICKS)
            self.assertEqual((cluster["c"].role, cluster["c"].current_term), (Role.LEADER, 1), f"seed {seed}")

    def test_leads_where_nobody_else_can(self) -> None:
        """One that has no room leads after all where nobody else does: it serves reads."""
        self.cluster.crash("a")
        self.note(Room.NONE, "b", "c")
        self.live(8 * ELECTION_TICKS)
        self.assertIn(Role.LEADER, (self.cluster["b"].role, self.cluster["c"].role))

    def test_room_again(self) -> None:
        """With room again a server is like any other."""
        self.note(Room.NONE, "b", "c")
        self.note(Room.AMPLE, "b", "c")
        self.cluster.do("a", lambda node: node.transfer_leadership("b"))
        self.cluster.settle()
        self.assertIs(self.cluster["b"].role, Role.LEADER)

    # -- what is written ---------------------------------------------------------------------------------------------

    def test_one_full_follower(self) -> None:
        """Writes go on without a follower whose disk is full: it gets nothing, but the news, and catches up later."""
        self.fill("c")
        for _ in range(5):
            self.cluster.propose("a", b"x" * 100)
            self.live(1)
        self.assertFalse(self.cluster["a"].cluster_lacks_room)
        self.assertEqual((self.cluster["a"].commit_index, self.cluster["b"].last_index), (6, 6))
        self.assertEqual(self.cluster["c"].last_index, 1)
        self.assertIs(self.cluster["a"].progress()["c"].room, Room.NONE)
        self.note(Room.AMPLE, "c")
        self.live(3)
        self.assertEqual(self.cluster["c"].last_index, 6)

    def test_spared_follower_votes_and_confirms(self) -> None:
        """A follower whose disk is full still counts for reads and elections."""
        self.fill("c", budget_bytes=10_000)
        self.cluster.crash("b")
        number = self.cluster.read("a")
        self.live(1)
        self.assertEqual(self.cluster.servers["a"].reads, {number: 1})

    def test_no_room_before_the_next_look(self) -> None:
        """A follower that can take nothing until it has looked at its disk is asked once for each sign of life."""
        self.live(2)
        self.cluster.do("c", lambda node: node.note_room(Room.AMPLE, LogRoom.of_bytes(0)))
        for _ in range(20):
            self.cluster.propose("a", bytes(100_000))
        self.cluster.settle()
        behind = self.cluster["a"].last_index
        self.assertLess(self.cluster["c"].last_index, behind)
        self.cluster.do("c", lambda node: node.note_room(Room.AMPLE, None))
        self.live(3)
        self.assertEqual(self.cluster["c"].last_index, behind)

    def test_majority_full(self) -> None:
        """Where the voters with room are no majority, what needs room is refused, and what frees some is written."""
        self.fill("b", "c", budget_bytes=10_000)
        leader = self.cluster["a"]
        self.assertTrue(leader.cluster_lacks_room)
        self.assertRaises(DiskFull, leader.propose, b"x")
        self.assertEqual(leader.last_index, 1)
        self.cluster.do("a", lambda node: node.propose(b"y", needs_room=False))
        self.live(1)
        self.assertEqual((leader.commit_index, self.cluster["b"].commit_index, self.cluster["c"].last_index), (2, 2, 2))
        self.note(Room.SCARCE, "c")
        self.live(2)
        self.assertFalse(leader.cluster_lacks_room)
        self.cluster.propose("a", b"z")
        self.live(1)
        self.assertEqual(leader.commit_index, 3)

    def test_the_one_with_room_is_away(self) -> None:
        """A voter that is not heard does not make up for one that is full."""
        self.fill("b", budget_bytes=10_000)
        leader = self.cluster["a"]
        self.assertFalse(leader.cluster_lacks_room)
        self.cluster.crash("c")
        self.live(ELECTION_TICKS)
        self.assertTrue(leader.cluster_lacks_room)
        self.assertRaises(DiskFull, leader.propose, b"x")

    def test_away_is_not_full(self) -> None:
        """Where no disk is full nothing is refused, however few are heard: they may be back in a moment."""
        for name in "bc":
            self.cluster.crash(name)
        for _ in range(ELECTION_TICKS - 1):
            self.cluster.tick()
        self.assertFalse(self.cluster["a"].cluster_lacks_room)
        self.cluster.propose("a", b"x")

    def test_leader_full(self) -> None:
        """A leader whose own disk is full takes nothing that needs room, and nothing at all beyond its budget."""
        self.fill("a", "b", "c", budget_bytes=400)
        leader = self.cluster["a"]
        self.assertIs(leader.role, Role.LEADER)
        self.assertRaises(DiskFull, leader.propose, b"x")
        self.cluster.do("a", lambda node: node.propose(bytes(200), needs_room=False))
        self.assertRaises(DiskFull, leader.propose, bytes(200), needs_room=False)
        self.live(1)
        self.assertEqual(leader.commit_index, 2)

    def test_leader_full_alone(self) -> None:
        """A leader whose disk is full takes nothing that needs room: it waits for the successor, which is asked at
        once, and is refused where that one does not take over."""
        leader = self.cluster["a"]
        self.note(Room.NONE, "a", budget_bytes=10_000)
        self.assertTrue(leader.cluster_lacks_room, "nobody has said yet that there is more room")
        self.live(2)
        self.assertIs(self.cluster["b"].role, Role.LEADER)

    def test_reads_after_an_election(self) -> None:
        """With all disks full a new leader is elected, commits its first entry, and answers linearizable reads."""
        self.fill("a", "b", "c")
        self.cluster.crash("a")
        self.live(8 * ELECTION_TICKS)
        name = next(name for name in "bc" if self.cluster[name].role is Role.LEADER)
        number = self.cluster.read(name)
        self.live(1)
        self.assertEqual(self.cluster.servers[name].reads, {number: 2})

    def test_no_snapshot_for_a_full_disk(self) -> None:
        """A follower that needs a snapshot is offered none as long as its disk is full."""
        self.fill("c")
        for _ in range(5):
            self.cluster.propose("a", b"x")
            self.live(1)
        self.cluster.do("a", lambda node: (node.snapshot_taken(5), node.compact(5)))
        self.live(3)
        offers = [event for event in self.cluster.servers["a"].events if "a snapshot is due" in event]
        self.assertEqual(offers, [])

    def test_appends_only_to_who_can(self) -> None:
        """No message with entries goes to a follower that has said that its disk is full."""
        self.fill("c")
        node = self.cluster["a"]
        node.propose(b"x")
        sent = [m for m in node.take_ready().messages if isinstance(m, AppendEntries)]
        self.assertEqual([(m.to, len(m.entries)) for m in sent], [("b", 1)])
