"""How followers hear what is committed where that is no message of its own at once (``news_at_once`` switched off)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.raft.messages import AppendEntries, Heartbeat, TimeoutNow
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role
from tests.raft.cluster import Cluster, configuration


class NewsTests(SynchronousTestCase):
    """Three servers, of which ``a`` leads; everybody has its first entry, and knows that it is committed."""

    def setUp(self) -> None:
        self.cluster = Cluster("a", "b", "c", news_at_once=False)
        self.cluster.elect("a")
        self.tell()

    def tell(self) -> None:
        """Let the leader tell its news, as a driver does when nothing else has told them for a while."""
        self.cluster.do("a", RaftNode.tell_news)
        self.cluster.settle()

    def commit_indexes(self) -> dict[str, int]:
        """Return how far each server knows to be committed."""
        return {name: self.cluster[name].commit_index for name in self.cluster.running}

    def test_no_message_of_its_own(self) -> None:
        """Where an entry has been committed, nothing more is sent for it: the leader knows, and its followers do not
        yet."""
        self.assertEqual(self.commit_indexes(), {"a": 1, "b": 1, "c": 1})
        self.cluster.propose("a", b"x")
        self.cluster.settle()
        self.assertEqual(self.commit_indexes(), {"a": 2, "b": 1, "c": 1})
        self.assertTrue(self.cluster["a"].has_untold_news)
        self.assertEqual(self.cluster["a"].told_index, 1)

    def test_with_the_next_entries(self) -> None:
        """The next entries bring the news of those before."""
        self.cluster.propose("a", b"x")
        self.cluster.settle()
        self.cluster.propose("a", b"y")
        self.assertEqual(self.cluster["a"].told_index, 2)
        self.cluster.settle()
        self.assertEqual(self.commit_indexes(), {"a": 3, "b": 2, "c": 2})

    def test_with_a_heartbeat(self) -> None:
        """A heartbeat brings the news, and nothing is left to be told."""
        self.cluster.propose("a", b"x")
        self.cluster.settle()
        self.cluster.tick("a")
        self.assertFalse(self.cluster["a"].has_untold_news)
        self.cluster.settle()
        self.assertEqual(self.commit_indexes(), {"a": 2, "b": 2, "c": 2})

    def test_told(self) -> None:
        """``tell_news`` sends one message to each follower that was not told, and none where all were."""
        self.cluster.propose("a", b"x")
        self.cluster.settle()
        self.cluster.do("a", RaftNode.tell_news)
        self.assertEqual([(type(m), m.to) for m in self.cluster.network], [(AppendEntries, "b"), (AppendEntries, "c")])
        self.cluster.settle()
        self.assertEqual(self.commit_indexes(), {"a": 2, "b": 2, "c": 2})
        self.cluster.do("a", RaftNode.tell_news)
        self.assertEqual(self.cluster.network, [])

    def test_lost_news(self) -> None:
        """News that were lost come again with the next heartbeat."""
        self.cluster.propose("a", b"x")
        self.cluster.settle()
        self.cluster.do("a", RaftNode.tell_news)
        self.cluster.network.clear()
        self.cluster.tick("a")
        self.cluster.settle()
        self.assertEqual(self.commit_indexes(), {"a": 2, "b": 2, "c": 2})

    def test_read_of_a_follower(self) -> None:
        """A follower that asks for a read index is told with the answer that the index is committed, so that its read
        waits for nothing else."""
        self.cluster.propose("a", b"x")
        self.cluster.settle()
        context = self.cluster.read("b")
        self.cluster.settle()
        self.assertEqual(self.cluster.servers["b"].reads[context], 2)
        self.assertEqual(self.cluster["b"].commit_index, 2)

    def test_read_of_a_follower_that_is_behind(self) -> None:
        """Likewise where it did not have the entry yet when the leader's round began."""
        self.cluster.propose("a", b"x")
        late = [message for message in self.cluster.network if message.to == "b"]
        self.cluster.network = [message for message in self.cluster.network if message.to != "b"]
        self.cluster.settle()
        context = self.cluster.read("b")
        request = self.cluster.network.pop()
        self.cluster.deliver(request)
        self.assertTrue(any(type(m) is Heartbeat and m.to == "b" and m.commit_index == 1 for m in self.cluster.network))
        self.cluster.network[:0] = late
        self.cluster.settle()
        self.assertEqual(self.cluster.servers["b"].reads[context], 2)
        self.assertEqual(self.cluster["b"].commit_index, 2)

    def test_last_news_of_a_leader_that_left(self) -> None:
        """A leader that steps down because it is no member any more tells at once what made it so, and who is to
        lead."""
        self.cluster.do("a", lambda node: node.propose_configuration(configuration("b", "c")))
        sent: list[Any] = []
        for _ in range(100):
            self.cluster.settle_one()
            sent.extend(message for message in self.cluster.network if message not in sent)
            if self.cluster["a"].role is not Role.LEADER:
                break
        index = self.cluster["a"].commit_index
        news = {m.to for m in sent if type(m) is AppendEntries and m.leader_commit == index}
        self.assertEqual(news, {"b", "c"})
        self.assertEqual(len([m for m in sent if type(m) is TimeoutNow]), 1)

    def test_nothing_to_tell(self) -> None:
        """Whoever does not lead has no news to tell."""
        self.assertFalse(self.cluster["b"].has_untold_news)
        self.assertEqual(self.cluster["b"].told_index, self.cluster["b"].commit_index)
        self.cluster.do("b", RaftNode.tell_news)
        self.assertEqual(self.cluster.network, [])
