"""A disk that stalls: when a server notices, and what it no longer does then."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.raft.diskwatch import DiskWatch
from raftkv.raft.messages import Heartbeat, RequestVoteResponse, TimeoutNow
from raftkv.raft.ready import Role
from tests.raft.cluster import Cluster, configuration, make_node
from tests.raft.test_paper import append_entries, leader, persisted, request_vote, stored, taken

ELECTION_TICKS = 10


class DiskWatchTests(SynchronousTestCase):
    """When a stall begins, and when it is over."""

    def setUp(self) -> None:
        self.watch = DiskWatch(patience_ticks=ELECTION_TICKS)

    def ticks(self, count: int, *, write_id: int, done: int, last_index: int = 0) -> list[bool]:
        """Count ticks with the same writes under way; return what each said."""
        return [self.watch.tick(write_id=write_id, done_write_id=done, last_index=last_index) for _ in range(count)]

    def test_begins_after_an_election_timeout(self) -> None:
        """A stall begins once a write has been under way for a whole election timeout, and is told once."""
        self.ticks(3, write_id=1, done=1)
        self.assertNotIn(True, self.ticks(ELECTION_TICKS, write_id=2, done=1))
        self.assertFalse(self.watch.stalled)
        self.assertEqual(self.ticks(3, write_id=2, done=1), [True, False, False])
        self.assertTrue(self.watch.stalled)

    def test_busy_is_not_stalled(self) -> None:
        """A disk that always has something to do, and does each write in time, does not stall."""
        for number in range(100):
            self.ticks(1, write_id=number + ELECTION_TICKS - 1, done=number)
            self.assertFalse(self.watch.stalled)

    def test_ends_after_calm(self) -> None:
        """A stall is over only after an election timeout in which no write took longer than half of one."""
        self.ticks(ELECTION_TICKS + 1, write_id=1, done=0)
        self.ticks(ELECTION_TICKS - 1, write_id=1, done=1)
        self.assertTrue(self.watch.stalled)
        self.assertEqual(self.ticks(2, write_id=1, done=1), [True, False])
        self.assertFalse(self.watch.stalled)

    def test_does_not_flap(self) -> None:
        """A disk that limps, with writes of more than half an election timeout, stays stalled after the first stall."""
        self.ticks(ELECTION_TICKS + 1, write_id=1, done=0)
        for number in range(2, 50):
            self.assertNotIn(True, self.ticks(6, write_id=number, done=number - 1))
        self.assertTrue(self.watch.stalled)

    def test_outpaced(self) -> None:
        """Others do without a stalled disk where they commit soon; where they are as slow as it is, they do not."""
        self.ticks(1, write_id=1, done=0, last_index=1)
        self.assertFalse(self.watch.is_outpaced(1), "it does not stall")
        self.ticks(5, write_id=2, done=0, last_index=7)
        self.ticks(5, write_id=3, done=0, last_index=9)
        self.assertTrue(self.watch.stalled)
        self.assertTrue(self.watch.is_outpaced(7))
        self.assertFalse(self.watch.is_outpaced(6))


class StalledLeaderTests(SynchronousTestCase):
    """A leader whose disk stalls."""

    def setUp(self) -> None:
        self.cluster = Cluster("a", "b", "c")
        self.cluster.elect("a")

    def live(self, ticks: int, *, working: str) -> None:
        """Let time pass; only some disks work."""
        for _ in range(ticks):
            self.cluster.tick()
            self.cluster.settle(disks=list(working))

    def test_gives_way(self) -> None:
        """Leadership goes to another server, which loses no write; heartbeats went on, so that no other campaigned."""
        self.cluster.propose("a", b"x")
        self.live(ELECTION_TICKS, working="bc")
        self.assertEqual((self.cluster["a"].role, self.cluster["a"].commit_index), (Role.LEADER, 2))
        self.live(2, working="bc")
        self.assertTrue(self.cluster["a"].disk_stalled)
        self.assertEqual((self.cluster["a"].role, self.cluster["b"].role), (Role.FOLLOWER, Role.LEADER))
        self.assertEqual(self.cluster["b"].current_term, 2)
        self.cluster.propose("b", b"y")
        self.live(2, working="bc")
        self.assertEqual([self.cluster[name].commit_index for name in "abc"], [4, 4, 4])

    def test_stays_down(self) -> None:
        """While the disk stalls its server does not campaign, whoever is lost; once it works, it leads if need be."""
        self.cluster.propose("a", b"x")
        self.live(ELECTION_TICKS + 2, working="bc")
        self.cluster.crash("b")
        term = self.cluster["a"].current_term
        for _ in range(5 * ELECTION_TICKS):
            self.cluster.tick()
            self.cluster.settle(disks=["c"])
            self.assertIs(self.cluster["a"].role, Role.FOLLOWER)
        self.assertEqual(self.cluster["c"].current_term, term, "pre-votes were granted that no vote could follow")
        self.live(5 * ELECTION_TICKS, working="ac")
        self.assertFalse(self.cluster["a"].disk_stalled)
        self.assertIn(Role.LEADER, (self.cluster["a"].role, self.cluster["c"].role))

    def test_works_again(self) -> None:
        """A server whose disk works again follows, and does not take leadership back."""
        self.cluster.propose("a", b"x")
        self.live(ELECTION_TICKS + 2, working="bc")
        self.live(4 * ELECTION_TICKS, working="abc")
        self.assertFalse(self.cluster["a"].disk_stalled)
        self.assertEqual((self.cluster["b"].role, self.cluster["b"].current_term), (Role.LEADER, 2))
        self.assertEqual(self.cluster["a"].stable_index, self.cluster["b"].last_index)

    def test_nobody_could_do_better(self) -> None:
        """A leader goes on where another disk stalls too: who would lead then could commit nothing either."""
        self.cluster.propose("a", b"x")
        self.live(3 * ELECTION_TICKS, working="c")
        self.assertTrue(self.cluster["a"].disk_stalled)
        self.assertEqual((self.cluster["a"].role, self.cluster["a"].current_term), (Role.LEADER, 1))
        self.live(4 * ELECTION_TICKS, working="bc")
        self.assertIn(Role.LEADER, (self.cluster["b"].role, self.cluster["c"].role))

    def test_alone(self) -> None:
        """A leader without other voters goes on, and says that its disk stalls."""
        cluster = Cluster("a")
        cluster.elect("a")
        cluster.propose("a", b"x")
        for _ in range(3 * ELECTION_TICKS):
            cluster.tick()
        self.assertEqual((cluster["a"].role, cluster["a"].disk_stalled), (Role.LEADER, True))
        cluster.settle()
        self.assertEqual(cluster["a"].commit_index, 2)

    def test_slow_is_not_stalled(self) -> None:
        """A disk that takes a little less than an election timeout for each write costs nobody the leadership."""
        for number in range(20):
            self.cluster.propose("a", b"%d" % number)
            self.live(ELECTION_TICKS - 1, working="bc")
            self.cluster.settle()
        self.assertEqual((self.cluster["a"].role, self.cluster["a"].current_term), (Role.LEADER, 1))

    def test_transfer_fails(self) -> None:
        """A leader that nobody relieves steps down after an election timeout, and another finds its own way."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1)
        persisted(node)
        node.propose(b"x")
        taken(node)
        stored(node, 2, sender="b")
        stored(node, 2, sender="c")
        asked: list[str] = []
        ticks = 0
        while node.role is Role.LEADER and ticks < 3 * ELECTION_TICKS:
            node.tick()
            ticks += 1
            messages = [message for _ in range(3) for message in taken(node).messages]
            asked += [message.to for message in messages if isinstance(message, TimeoutNow)]
            if node.role is Role.LEADER:
                self.assertIn(Heartbeat, [type(message) for message in messages])
            stored(node, 2)
        self.assertEqual((asked, node.role), (["b"], Role.FOLLOWER))
        self.assertEqual(ticks, 2 * ELECTION_TICKS + 1)

    def test_prefers_the_living(self) -> None:
        """The successor is one that is heard, even where one that has fallen silent has the same log."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1, sender="b")
        persisted(node)
        stored(node, 1, sender="c")
        for _ in range(ELECTION_TICKS):
            node.tick()
            stored(node, 1, sender="c")
            persisted(node)
        node.transfer_leadership(None)
        self.assertEqual(node.transferring_to, "c")


class StalledVoterTests(SynchronousTestCase):
    """A server that does not lead, whose disk stalls."""

    def test_vote_waits_for_the_disk(self) -> None:
        """A vote leaves only with the disk, however long that takes; a pre-vote is refused meanwhile (B1)."""
        node = make_node()
        node.step(append_entries(1))
        persisted(node)
        node.step(request_vote(2, sender="c", leadership_transfer=True))
        write = taken(node).write
        assert write is not None
        for _ in range(ELECTION_TICKS + 1):
            node.tick()
        node.step(request_vote(3, sender="b", pre_vote=True))
        answers = [message for message in taken(node).messages if isinstance(message, RequestVoteResponse)]
        self.assertEqual([(answer.to, answer.vote_granted) for answer in answers], [("b", False)])
        node.advance(write.write_id)
        answers = [message for message in taken(node).messages if isinstance(message, RequestVoteResponse)]
        self.assertEqual([(answer.to, answer.vote_granted) for answer in answers], [("c", True)])

    def test_candidate_alone(self) -> None:
        """A single server is elected although its disk stalls in the middle of it, once the disk works again."""
        node = make_node(members=configuration("a"))
        node.campaign()
        writes = []
        for _ in range(5 * ELECTION_TICKS):
            node.tick()
            ready = taken(node)
            writes += [ready.write] if ready.write is not None else []
        self.assertEqual([write.write_id for write in writes], [1])
        node.advance(1)
        for _ in range(2 * ELECTION_TICKS):
            node.tick()
            persisted(node)
        self.assertIs(node.role, Role.LEADER)


class DyingLeaderTests(SynchronousTestCase):
    """A leader whose disk has failed."""

    def setUp(self) -> None:
        self.cluster = Cluster("a", "b", "c", election_ticks=ELECTION_TICKS)
        self.cluster.elect("a")

    def test_last_words(self) -> None:
        """A leader that dies asks the best successor to campaign, and leads no more itself (B50)."""
        self.cluster.propose("a", b"x")
        self.cluster.settle()
        (message,) = self.cluster["a"].resign()
        self.assertEqual(message, TimeoutNow(term=1, sender="a", to="b"))
        self.assertIs(self.cluster["a"].role, Role.FOLLOWER)
        self.assertEqual(self.cluster["a"].resign(), ())
        self.cluster.crash("a")
        self.cluster.deliver(message)
        self.cluster.settle()
        self.assertEqual((self.cluster["b"].role, self.cluster["b"].current_term), (Role.LEADER, 2))
        self.assertEqual(self.cluster["c"].resign(), ())
