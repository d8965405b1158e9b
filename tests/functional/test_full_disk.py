"""Real processes on real file systems of a few MiB that fill up (B50)."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

from tests.functional.processes import FunctionalTestCase, Node, free_port
from tests.functional.smalldisk import NoSmallDisk, SmallDisk, require_small_disks

KIB = 1024
VALUE_BYTES = 8 * KIB  # of chance, so that no snapshot gets any smaller than the state
SETTINGS = {"logSegmentBytes": 256 * KIB, "diskReserve": 1024 * KIB, "snapshotInterval": 1.0}


class FullDiskTests(FunctionalTestCase):
    """Three nodes with segments of 256 KiB and a reserve of 1 MiB."""

    def setUp(self) -> None:
        super().setUp()
        self.disks: dict[str, SmallDisk] = {}
        self.acknowledged: dict[str, str] = {}
        self.refused: set[str] = set()
        self.chance = random.Random(1)
        try:
            require_small_disks(self.folder)
        except NoSmallDisk as reason:
            print(f"no file system that fills up: {reason}")
            self.skipTest(f"no small file system can be had: {reason}")  # type: ignore[no-untyped-call]

    def _kill_all(self) -> None:
        super()._kill_all()
        for disk in self.disks.values():
            disk.remove()

    def start(self, small: Iterable[str]) -> list[Node]:
        """Start three nodes, those named on disks of 3 MiB."""
        nodes = self.make_cluster_on(small, **SETTINGS)
        self.wait_ready(*nodes)
        return nodes

    def make_cluster_on(self, small: Iterable[str], **more: object) -> list[Node]:
        peers = {f"n{number}": f"127.0.0.1:{free_port()}" for number in (1, 2, 3)}
        nodes = [self.make_node(name, peers=peers, **more) for name in peers]
        for node in nodes:
            if node.name in small:
                self.disks[node.name] = SmallDisk(node, "3m")
            node.start()
        return nodes

    def put(self, node: Node, key: str) -> tuple[int, str]:
        """Write a value; return the status, and the code of the error."""
        value = self.chance.randbytes(VALUE_BYTES // 2).hex()
        answer = node.request("PUT", f"/v1/kv/{key}", value.encode())
        if answer.status == 200:
            self.acknowledged[key] = value
            return 200, ""
        error = answer.json["error"]
        if error["outcome"] == "not_applied":
            self.refused.add(key)
        if error["code"] == "disk_full":
            self.assertEqual((answer.status, error["outcome"]), (507, "not_applied"))
            self.assertIn("retry-after", answer.headers)
        return answer.status, error["code"]

    def fill(self, nodes: list[Node], count: int) -> list[str]:
        """Write new keys through some nodes in turn; return the codes of the errors, stop at the first full disk."""
        codes = []
        for number in range(count):
            status, code = self.put(nodes[number % len(nodes)], f"fill-{len(self.acknowledged)}-{number}")
            codes += [code] if status != 200 else []
            if code == "disk_full":
                break
        return codes

    def assert_whole(self, nodes: list[Node]) -> None:
        """What was acknowledged is there on every node, what was refused nowhere, and every process still runs."""
        for node in nodes:
            self.assertTrue(node.is_running, node.log()[-2000:])
            self.assertNotIn("Traceback", node.log())
            for key in list(self.acknowledged)[:: max(1, len(self.acknowledged) // 40)]:
                self.assertEqual(node.get(key), self.acknowledged[key])
            for key in sorted(self.refused - set(self.acknowledged)):
                self.assertIsNone(node.get(key))
        self.assertEqual(len({node.status()["digest"] for node in nodes}), 1)

    def has(self, node: Node, alarm: str) -> bool:
        status = node.status()
        return status is not None and alarm in status["alarms"]

    def shows_full(self, node: Node) -> bool:
        """Tell whether a node says that its disk is full, in its status and in its metrics."""
        metrics = node.request("GET", "/metrics").body
        return self.has(node, "disk_full") and b'raftkv_alarm{alarm="disk_full"} 1.0' in metrics

    def is_full_for_all(self, nodes: list[Node]) -> bool:
        """Write through each node until it refuses; tell whether the alarms of two of three and of the cluster are on.

        Now and then a snapshot still fits, and what it makes superfluous is room again: for some writes more, until the
        state itself is too large.
        """
        for node in nodes:
            codes = self.fill([node], 500)
            self.assertEqual(codes[-1:], ["disk_full"], codes)
        return sum(map(self.shows_full, nodes)) >= 2 and self.has(self.leader(nodes), "cluster_full")

    def test_all(self) -> None:
        """B50: three disks fill up. Writes are refused as not applied, reads are served, deletes are taken; with larger
        disks writes go on by themselves, nothing that was acknowledged is lost, and no process has ended."""
        nodes = self.start(["n1", "n2", "n3"])
        codes = self.fill(nodes, 2000)
        self.assertEqual(codes[-1:], ["disk_full"], codes)
        print(f"refused after {len(self.acknowledged)} writes of {VALUE_BYTES} bytes on disks of 3 MiB")
        key, value = next(iter(self.acknowledged.items()))
        self.wait_until(lambda: self.is_full_for_all(nodes), "all to refuse, and the alarms", 60)
        for node in nodes:
            self.assertEqual(node.get(key), value)
        deleted = node.request("DELETE", f"/v1/kv/{key}")
        self.assertEqual((deleted.status, deleted.json["deleted"]), (200, True))
        del self.acknowledged[key]
        time.sleep(3)  # some snapshots are tried meanwhile, and some looks taken
        for node in nodes:
            self.assertTrue(node.is_running, node.log()[-2000:])
            self.disks[node.name].resize("32m")
        for node in nodes:
            self.wait_until(lambda node=node: not self.has(node, "disk_full"), f"the end of {node.name}'s alarm")
        self.wait_until(lambda: self.put(nodes[0], "again")[0] == 200, "writes to go on")
        self.assertEqual(self.fill(nodes, 30), [])
        self.assert_whole(nodes)
        for node in nodes:
            self.assertEqual(node.stop(), 0)

    def test_leader(self) -> None:
        """B50: the disk of one node fills up, the leader's. Somebody else leads, no write is lost or refused for good,
        and with a larger disk the node catches up."""
        nodes = self.start(["n1"])
        full = nodes[0]
        if self.leader(nodes) is not full:
            self.leader(nodes).request("POST", "/v1/cluster/transfer-leadership", {"to": "n1"})
            self.wait_until(lambda: self.leader(nodes) is full, "n1 to lead")
        codes = []
        for _ in range(6):
            codes += self.fill(nodes, 100)
        self.assertLess(len(codes), 6, codes)
        self.assertEqual(set(codes) - {"disk_full"}, set())
        self.assertIsNot(self.leader(nodes), full)
        self.wait_until(lambda: self.has(full, "disk_full"), "the alarm")
        key, value = next(iter(self.acknowledged.items()))
        self.assertEqual(full.get(key, "stale"), value)
        behind = full.request("GET", f"/get?key={key}")
        self.assertEqual((behind.status, behind.json["error"]["code"]), (503, "behind"))
        self.assertGreater(self.leader(nodes).status()["applied_index"], full.status()["last_index"])
        self.disks["n1"].resize("64m")
        self.wait_until(lambda: not self.has(full, "disk_full"), "the end of the alarm")
        last = self.leader(nodes).status()["commit_index"]
        self.wait_until(lambda: full.status()["applied_index"] >= last, "n1 to catch up")
        self.assert_whole(nodes)
