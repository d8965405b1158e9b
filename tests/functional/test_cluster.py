"""Three real nodes: written through, killed under load, paused, restarted. Nothing acknowledged is ever lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from raftkv.client import KVClient
from tests.functional.load import Load, PlainWriter
from tests.functional.processes import FunctionalTestCase, Node, sleep


class ClusterTestCase(FunctionalTestCase):
    """What the tests below share."""

    async def verify(self, node: Node, load: Load) -> None:
        """Check that a node answers every acknowledged write with its value."""
        self.assertGreater(len(load.acknowledged), 0, self.logs())
        client = KVClient(node.url, follow_leader=False, timeout=20.0)
        try:
            pending: list[tuple[str, str, Deferred[str | None]]] = []
            for key, value in load.acknowledged.items():
                pending.append((key, value, client.get(key)))
            lost = [key for key, value, answer in pending if await answer != value]
        finally:
            await client.close()
        self.assertEqual(lost, [], f"{len(lost)} acknowledged writes are lost on {node.name}")

    def assert_same_state(self, nodes: Sequence[Node]) -> None:
        """Wait until all nodes have applied the same, and check that they hold the same."""

        def settled() -> list[str] | None:
            statuses = [node.status() for node in nodes]
            if not all(statuses) or len({status["applied_index"] for status in statuses}) != 1:
                return None
            return [status["digest"] for status in statuses]

        digests = self.wait_until(settled, "all nodes to have applied the same")
        self.assertEqual(len(set(digests)), 1, f"the states differ: {digests}")


def metrics_of(node: Node) -> str:
    """Return what a node tells Prometheus."""
    return node.request("GET", "/metrics").body.decode()


class UseTests(ClusterTestCase):
    """Nothing fails."""

    def test_write_through_each_node(self) -> None:
        """A write through any node is read through any other at once, and all hold the same in the end."""
        nodes = self.make_cluster()
        for writer in nodes:
            for reader in nodes:
                value = f"{writer.name} for {reader.name}"
                answer = writer.set("k", value)
                self.assertEqual(answer.status, 200, answer.body)
                self.assertEqual(reader.get("k"), value)
        self.assertEqual(nodes[0].status()["revision"], 9)
        self.assertEqual(nodes[1].request("DELETE", "/delete?key=k").json["deleted"], True)
        self.assertIsNone(nodes[2].get("k"))
        self.assert_same_state(nodes)

    def test_leader_in_every_answer(self) -> None:
        """Every node's answers name the same leader, by its HTTP address."""
        nodes = self.make_cluster()
        leader = self.leader(nodes)
        for node in nodes:
            headers = node.set("k", "v").headers
            self.assertEqual(headers["x-raft-node"], node.name)
            self.assertEqual(headers["x-raft-leader"], f"127.0.0.1:{leader.http_port}")

    def test_cluster_by_each_node(self) -> None:
        """Every node tells of all three members, with what only the leader knows."""
        nodes = self.make_cluster()
        for node in nodes:
            members = self.wait_until(
                lambda node=node: [
                    member for member in node.request("GET", "/v1/cluster").json["members"] if member["healthy"]
                ],
                "members",
            )
            self.assertEqual([member["id"] for member in members], ["n1", "n2", "n3"])


class FailureTests(ClusterTestCase):
    """Something fails while clients write."""

    async def test_kill_the_leader_under_load(self) -> None:
        """After kill -9 of the leader writes go on by themselves, and every acknowledged one is read back."""
        nodes = self.make_cluster(electionTimeout=1.0, heartbeatInterval=0.1)
        load = Load(nodes)
        await sleep(1.5)
        victim = self.leader(nodes)
        killed = time.monotonic()
        victim.kill()
        await sleep(7)
        pause = load.longest_pause_since(killed)
        await load.stop()
        print(
            f"\n      leader killed under load: {len(load.acknowledged)} acknowledged, {load.failed} failed; "
            f"writes went on after {pause:.2f} s ({pause / 1.0:.2f} election time-outs) ",
            end="",
        )
        self.assertGreater(load.acknowledged_since(killed + pause), 0, self.logs())
        survivors = [node for node in nodes if node is not victim]
        self.assertIn("\nraftkv_leaders_gone_total 1", "".join(map(metrics_of, survivors)), self.logs())
        for node in survivors:
            await self.verify(node, load)
        victim.start()
        self.wait_ready(victim)
        await self.verify(victim, load)
        self.assert_same_state(nodes)

    async def test_kill_one_after_the_other(self) -> None:
        """Killing each node in turn under load, with a restart in between, loses nothing."""
        nodes = self.make_cluster()
        load = Load(nodes)
        for node in nodes:
            await sleep(1)
            node.kill()
            await sleep(2)
            node.start()
            self.wait_ready(node)
        await load.stop()
        for node in nodes:
            await self.verify(node, load)
        self.assert_same_state(nodes)

    async def test_kill_all(self) -> None:
        """Killing all nodes at once under load loses nothing that was acknowledged (B51)."""
        nodes = self.make_cluster()
        load = Load(nodes)
        await sleep(2)
        for node in nodes:
            node.signal(signal.SIGKILL)
        for node in nodes:
            node.wait()
        for node in nodes:
            node.start()
        self.wait_ready(*nodes)
        await load.stop()
        for node in nodes:
            await self.verify(node, load)
        self.assert_same_state(nodes)

    async def test_paused_leader(self) -> None:
        """A leader that is stopped and wakes up neither loses writes nor answers reads from its past (B28, B30)."""
        nodes = self.make_cluster()
        load = Load(nodes)
        await sleep(1)
        paused = self.leader(nodes)
        others = [node for node in nodes if node is not paused]
        self.assertEqual(paused.set("k", "old").status, 200)
        paused.signal(signal.SIGSTOP)
        successor = self.leader(others)
        self.assertEqual(successor.set("k", "new").status, 200)
        await sleep(1)
        paused.signal(signal.SIGCONT)
        self.assertEqual(paused.get("k"), "new")
        await load.stop()
        for node in nodes:
            await self.verify(node, load)
        self.assert_same_state(nodes)

    async def test_paused_follower(self) -> None:
        """Writes go on while a follower is stopped, and it catches up when it wakes."""
        nodes = self.make_cluster()
        leader = self.leader(nodes)
        follower = next(node for node in nodes if node is not leader)
        load = Load([node for node in nodes if node is not follower])
        await sleep(0.5)
        follower.signal(signal.SIGSTOP)
        moment = time.monotonic()
        await sleep(2)
        self.assertGreater(load.acknowledged_since(moment), 0)
        self.assertEqual(self.leader(nodes), leader)
        follower.signal(signal.SIGCONT)
        await load.stop()
        await self.verify(follower, load)
        self.assert_same_state(nodes)

    async def test_stop_in_turn_under_load(self) -> None:
        """Stopping each node in turn hands leadership over, exits with 0 and loses nothing."""
        nodes = self.make_cluster()
        load = Load(nodes)
        await sleep(1)
        longest = 0.0
        for _ in nodes:
            leader = self.leader(nodes)
            moment = time.monotonic()
            leader.signal(signal.SIGTERM)
            while leader.is_running:
                await sleep(0.05)
            self.assertEqual(leader.wait(), 0, leader.log())
            await sleep(1.5)
            longest = max(longest, load.longest_pause_since(moment))
            leader.start()
            self.wait_ready(leader)
        await load.stop()
        print(f"\n      leaders stopped in turn: longest pause {longest:.2f} s, {load.failed} failed ", end="")
        for node in nodes:
            await self.verify(node, load)
        self.assert_same_state(nodes)

    async def test_stop_without_retries(self) -> None:
        """When leaders are stopped one after the other, each handing over to nodes that have just been started, no
        write fails of clients that try nothing again: they wait for the successor. At the node that stops the last
        answer says so, and then nobody listens."""
        nodes = self.make_cluster(electionTimeout=1.0, heartbeatInterval=0.1)
        writers = {node.name: [PlainWriter(node, number) for number in range(2)] for node in nodes}
        await sleep(1)
        pauses = []
        for _ in nodes:
            leader = self.leader(nodes)
            moment = time.monotonic()
            leader.signal(signal.SIGTERM)
            while leader.is_running:
                await sleep(0.02)
            self.assertEqual(leader.wait(), 0, leader.log())
            await sleep(1)
            for name, theirs in writers.items():
                if name != leader.name:
                    pauses += [writer.pause_since(moment) for writer in theirs]
            leader.start()
            self.wait_ready(leader)
        everybody = [writer for theirs in writers.values() for writer in theirs]
        for writer in everybody:
            writer.stop()
        failed = [failure for writer in everybody for failure in writer.failed]
        written = sum(len(writer.times) for writer in everybody)
        print(
            f"\n      leaders stopped under clients without retries: {written} acknowledged, {len(failed)} failed; "
            f"longest pause at the other nodes {max(pauses):.3f} s ",
            end="",
        )
        self.assertEqual(failed, [])
        self.assertGreater(min(len(writer.times) for writer in everybody), 0)

    def test_no_majority(self) -> None:
        """Without a majority writes and reads are refused in bounded time, and go on once there is one again."""
        nodes = self.make_cluster()
        self.assertEqual(nodes[0].set("k", "v").status, 200)
        self.wait_until(lambda: nodes[0].get("k", "stale") == "v", "the news of the commitment")
        nodes[1].kill()
        nodes[2].kill()
        for answer in (nodes[0].set("k", "w"), nodes[0].request("GET", "/get?key=k")):
            self.assertIn(answer.status, (503, 504), answer.body)
            self.assertIn(answer.json["error"]["code"], ("no_leader", "timeout"))
        self.assertEqual(nodes[0].get("k", "stale"), "v")
        nodes[1].start()
        self.wait_ready(nodes[0], nodes[1])
        self.assertEqual(nodes[0].set("k", "x").status, 200)
        self.assertEqual(nodes[1].get("k"), "x")

    async def test_follower_behind_a_snapshot(self) -> None:
        """A follower whose log was compacted away meanwhile is sent a snapshot and holds the same in the end."""
        nodes = self.make_cluster(snapshotThreshold=20_000, snapshotInterval=0.2)
        leader = self.leader(nodes)
        follower = next(node for node in nodes if node is not leader)
        follower.kill()
        load = Load([node for node in nodes if node is not follower])
        await sleep(3)
        await load.stop()
        self.wait_until(lambda: leader.status()["snapshot_index"] > 0, "a snapshot")
        follower.start()
        self.wait_ready(follower)
        await self.verify(follower, load)
        self.assert_same_state(nodes)
        self.assertGreater(follower.status()["snapshot_index"], 0)
