"""What a member that does not keep up, and a long log, cost in memory: next to nothing."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.functional.processes import FunctionalTestCase, Node

MIB = 1024 * 1024
VALUE_BYTES = 256 * 1024
WRITES = 400  # 100 MiB of log in all, of one key


class MemoryTests(FunctionalTestCase):
    """Three nodes that keep 1 MiB of log and 1 MiB of past values in memory, and take no snapshot."""

    def memory(self, node: Node, what: str) -> int:
        """Return what a process takes of the machine's memory, or has taken at the most, in bytes."""
        assert node.process is not None
        lines = Path(f"/proc/{node.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))

    def write(self, node: Node, count: int) -> None:
        for number in range(count):
            answer = node.request("PUT", "/v1/kv/k", b"%08d" % number + b"x" * VALUE_BYTES, limit=20)
            self.assertEqual(answer.status, 200, answer.body)

    def caught_up(self, leader: Node, node: Node) -> bool:
        ours, theirs = leader.status(), node.status()
        return bool(ours and theirs and theirs["applied_index"] == ours["commit_index"])

    def test_far_behind(self) -> None:
        """A follower that reads nothing while a hundred times as much is written as memory may hold does not make the
        leader grow by more than what may be under way; then it is served from the leader's disk, without a snapshot,
        and restarted on that log it does not load it."""
        if not Path("/proc/self/status").exists():
            self.skipTest("this system does not tell what a process takes of memory")  # type: ignore[no-untyped-call]
        nodes = self.make_cluster(logCacheBytes=MIB, snapshotThreshold=1 << 32, history={"maxBytes": MIB})
        leader = self.leader(nodes)
        follower = next(node for node in nodes if node is not leader)
        self.write(leader, 20)
        before = self.memory(leader, "VmRSS")
        follower.signal(signal.SIGSTOP)
        self.write(leader, WRITES)
        grown = self.memory(leader, "VmRSS") - before
        # 4 MiB unanswered, 16 MiB unsent, 1 MiB of cache, and what allocators and requests leave behind.
        self.assertLess(grown, 45 * MIB, "the leader has kept what the follower did not take")
        follower.signal(signal.SIGCONT)
        self.wait_until(lambda: self.caught_up(leader, follower), "the follower to catch up", 60)
        self.assertEqual(follower.status()["snapshot_index"], 0)
        self.assertLess(self.memory(leader, "VmRSS") - before, 45 * MIB)
        follower.stop()
        follower.start()
        self.wait_ready(follower, limit_seconds=60)
        self.wait_until(lambda: self.caught_up(leader, follower), "the follower to have applied its log", 60)
        self.assertEqual(follower.status()["digest"], leader.status()["digest"])
        # A start reads one segment of 64 MiB at a time.
        peak = self.memory(follower, "VmHWM")
        print(f"leader grew by {grown // MIB} MiB; a restart took {peak // MIB} MiB, {before // MIB} being usual")
        self.assertLess(peak, before + (64 + 32) * MIB)
