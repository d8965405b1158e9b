"""Real nodes lose their disks and come back under their old names; others start with empty ones for the first time."""

from __future__ import annotations

import shutil
import time

from tests.functional.processes import Node, free_port
from tests.functional.test_membership import MembershipTestCase


class WipedTestCase(MembershipTestCase):
    """What the tests below share."""

    def wipe(self, node: Node) -> None:
        """Kill a node, and empty its data directory."""
        node.kill()
        shutil.rmtree(node.data_dir)

    def incarnation(self, node: Node) -> str:
        """Return which data directory a node has."""
        return (node.data_dir / "meta").read_text()

    def not_ready(self, node: Node) -> str:
        """Return why a node is not ready; empty where it is, or does not answer yet."""
        try:
            answer = node.request("GET", "/health/ready", limit=2)
        except OSError:
            return ""
        return "" if answer.status == 200 else str(answer.json["error"]["message"])


class WipedTests(WipedTestCase):
    """A node whose disk was replaced by an empty one."""

    def come_back(self, nodes: list[Node], victim: Node) -> None:
        """Wipe a node, and see it become a voter again with everything that was written."""
        rest = [node for node in nodes if node is not victim]
        for number in range(5):
            self.assertEqual(nodes[0].set(f"before{number}", str(number)).status, 200)
        before = self.incarnation(victim)
        self.wipe(victim)
        self.wait_until(lambda: self.set_works(rest[0]), "the two others to go on without it")
        began = time.monotonic()
        victim.start()
        self.wait_ready(victim)
        self.wait_voters(rest[0], *(node.name for node in nodes))
        print(f"\n      a voter again after {time.monotonic() - began:.1f} s ", end="")
        self.assertNotEqual(self.incarnation(victim), before)
        for line in (f"{victim.name} has an empty data directory, but", "it joins that as a learner"):
            self.assertIn(line, victim.log())
        for number in range(5):
            self.assertEqual(victim.get(f"before{number}", "stale"), str(number))
        self.assertEqual(victim.get("meanwhile"), "x")
        self.assert_same_state(nodes)
        self.assertNotIn("Traceback", "".join(node.log() for node in nodes))

    def set_works(self, node: Node) -> bool:
        """Tell whether a write succeeds."""
        return node.set("meanwhile", "x").status == 200

    def test_follower(self) -> None:
        """B24: a wiped follower joins by itself as a learner, and is promoted; the data is there."""
        nodes = self.make_cluster()
        self.come_back(nodes, next(node for node in nodes if node is not self.leader(nodes)))

    def test_leader(self) -> None:
        """B24: so does a wiped leader; and it is a voter that counts, for then the next disk can go."""
        nodes = self.make_cluster()
        victim = self.leader(nodes)
        self.come_back(nodes, victim)
        self.come_back(nodes, next(node for node in nodes if node is not victim))

    def test_joined_node(self) -> None:
        """B24: a node that once came by raft.join is taken in again under its name when it has lost its disk."""
        first = self.make_node("n1")
        first.start()
        self.wait_ready(first)
        others = [self.join("n2", first), self.join("n3", first)]
        self.wait_voters(first, "n1", "n2", "n3")
        self.wipe(others[0])
        others[0].start()
        self.wait_voters_anew(first, others[0])

    def wait_voters_anew(self, node: Node, victim: Node) -> None:
        """Wait until a wiped node is a voter again."""
        self.wait_until(lambda: (victim.data_dir / "meta").exists(), "it to be taken in")
        self.wait_voters(node, "n1", "n2", "n3")


class FirstStartTests(WipedTestCase):
    """Nodes whose data directories are empty because they never started before."""

    def test_late_founder(self) -> None:
        """The third of three that starts when the two others run already joins as a learner and is promoted."""
        peers = {name: f"127.0.0.1:{free_port()}" for name in ("n1", "n2", "n3")}
        nodes = [self.make_node(name, peers=peers) for name in peers]
        for node in nodes[:2]:
            node.start()
        self.wait_ready(*nodes[:2])
        self.assertEqual(nodes[0].set("k", "v").status, 200)
        nodes[2].start()
        self.wait_ready(nodes[2])
        self.wait_voters(nodes[0], *peers)
        self.assertEqual(nodes[2].get("k"), "v")
        self.assertIn("it joins that as a learner", nodes[2].log())

    def test_alone_at_first(self) -> None:
        """A node that hears of nobody waits, and says whom it waits for, in the log and to whoever asks."""
        peers = {name: f"127.0.0.1:{free_port()}" for name in ("n1", "n2", "n3")}
        nodes = [self.make_node(name, peers=peers) for name in peers]
        nodes[0].start()
        self.wait_until(lambda: "waiting for an answer of n2" in self.not_ready(nodes[0]), "it to say so")
        self.assertIn("2 are needed to found the cluster", self.not_ready(nodes[0]))
        self.assertIn("n1 cannot begin yet: waiting for an answer of n2", nodes[0].log())
        self.assertEqual(nodes[0].status()["role"], "joining")
        answer = nodes[0].set("k", "v")
        self.assertEqual((answer.status, answer.json["error"]["code"]), (503, "no_leader"))
        self.assertEqual(answer.json["error"]["outcome"], "not_applied")
        self.assertEqual(nodes[0].request("GET", "/health/live").status, 200)
        nodes[1].start()
        self.wait_ready(*nodes[:2])
        self.assertEqual(nodes[0].stop(), 0)

    def test_wiped_and_alone(self) -> None:
        """B24: a wiped node that reaches nobody waits for the others, and does not begin anything by itself."""
        nodes = self.make_cluster()
        self.assertEqual(nodes[0].set("k", "v").status, 200)
        for node in nodes:
            node.kill()
        shutil.rmtree(nodes[0].data_dir)
        nodes[0].start()
        self.wait_until(lambda: "waiting for an answer" in self.not_ready(nodes[0]), "it to say so")
        for node in nodes[1:]:
            node.start()
        self.wait_ready(*nodes)
        self.assertEqual(nodes[0].get("k"), "v")

    def test_stop_while_waiting(self) -> None:
        """A node that waits ends cleanly when it is asked to."""
        peers = {name: f"127.0.0.1:{free_port()}" for name in ("n1", "n2", "n3")}
        node = self.make_node("n1", peers=peers)
        node.start()
        self.wait_until(lambda: bool(self.not_ready(node)), "it to wait")
        self.assertEqual(node.stop(), 0)
        self.assertNotIn("Traceback", node.log())
