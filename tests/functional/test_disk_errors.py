"""Writes that fail under real processes: a limit on the size of their files is set while they run (B43, B49)."""

from __future__ import annotations

import random
import resource
import subprocess

from tests.functional.processes import TWISTD, FunctionalTestCase, Node, environment

KIB = 1024
STOPPED_ITSELF = 70
TOO_LARGE = "File too large"


class DiskErrorTests(FunctionalTestCase):
    """Processes whose writes fail behind some offset of every file."""

    def start(self, node: Node) -> None:
        """Start a node that writes what it says into a pipe: a file of it would be limited, too."""
        node.process = subprocess.Popen(
            [*TWISTD, "-n", "raftkv", "--config", node.path.name],
            cwd=node.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert node.process.stdout is not None
        self.addCleanup(node.process.stdout.close)

    def limit(self, node: Node, size_bytes: int) -> None:
        """Let no file of a running node be written behind an offset."""
        assert node.process is not None
        if not hasattr(resource, "prlimit"):
            self.skipTest("limits of another process cannot be set here")  # type: ignore[no-untyped-call]
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

    def last_line(self, node: Node) -> str:
        """Wait for the end of a process, which must say that it stopped itself; return its last line."""
        assert node.process is not None
        said, _ = node.process.communicate(timeout=30)
        self.assertEqual(node.process.returncode, STOPPED_ITSELF, said[-2000:])
        self.assertNotIn(b"Traceback", said)
        return said.decode().splitlines()[-1]

    def put(self, node: Node, size_bytes: int) -> int:
        value = random.Random(size_bytes).randbytes(size_bytes // 2).hex()
        return node.request("PUT", f"/v1/kv/{size_bytes}", value.encode()).status

    def put_if_up(self, node: Node, size_bytes: int) -> int:
        """Put to a node that may stop itself before it answers: that counts as the 503 it would have said."""
        try:
            return self.put(node, size_bytes)
        except OSError:
            return 503

    def test_log(self) -> None:
        """B43, B49: a node whose log cannot be written stops at once, with a status and a last line that names the
        file; what it had acknowledged is there when it is started again."""
        node = self.make_node()
        self.start(node)
        self.wait_ready(node)
        self.assertEqual(self.put(node, 600 * KIB), 200)
        self.limit(node, 512 * KIB)
        self.assertEqual(self.put_if_up(node, 300 * KIB), 503)
        line = self.last_line(node)
        self.assertIn(f"write of {node.data_dir}/log/", line)
        self.assertIn(TOO_LARGE, line)
        node.start()
        self.wait_ready(node)
        self.assertEqual(len(node.get(str(600 * KIB))), 600 * KIB)

    def test_hard_state(self) -> None:
        """B43: a node whose vote cannot be written stops; the others go on."""
        peers = self.make_cluster()
        follower = next(node for node in peers if node is not self.leader(peers))
        follower.stop()
        self.start(follower)
        self.wait_ready(follower)
        self.limit(follower, 64)
        others = [node for node in peers if node is not follower]
        self.leader(others).request("POST", "/v1/cluster/transfer-leadership", {"to": follower.name})
        line = self.last_line(follower)
        self.assertIn(f"write of {follower.data_dir}/hardstate failed", line)
        self.assertIn(TOO_LARGE, line)
        self.wait_until(lambda: self.leader(others).set("k", "v").status == 200, "the others to go on")

    def test_start(self) -> None:
        """B44, B49: a node that cannot write its first files does not start, and says in one line which it is."""
        node = self.make_node(logSegmentBytes=64 * KIB, diskReserve=0)
        node.data_dir.mkdir(parents=True)
        done = subprocess.run(
            [*TWISTD, "-n", "raftkv", "--config", node.path.name],
            cwd=node.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)),
        )
        self.assert_refused(done, f"{node.data_dir}/hardstate", TOO_LARGE)

    def test_snapshot(self) -> None:
        """B43, B49: a node whose snapshot cannot be written stops like that, too, and leaves no snapshot."""
        node = self.make_node(
            logSegmentBytes=64 * KIB, diskReserve=128 * KIB, snapshotInterval=0.2, snapshotThreshold=1000 * KIB
        )
        self.start(node)
        self.wait_ready(node)
        for number in range(12):
            self.assertEqual(self.put(node, 60 * KIB + number), 200)
        self.limit(node, 200 * KIB)
        # The snapshot is due after some of these; on a slow machine it fails before the last of them is written.
        statuses = {size: self.put_if_up(node, size) for size in range(61 * KIB, 61 * KIB + 12)}
        line = self.last_line(node)
        self.assertIn(f"{node.data_dir}/snapshots/", line)
        self.assertIn(TOO_LARGE, line)
        self.assertEqual(list(node.data_dir.glob("snapshots/*.snapshot")), [])
        node.start()
        self.wait_ready(node)
        self.wait_until(lambda: list(node.data_dir.glob("snapshots/*.snapshot")), "a snapshot")
        acknowledged = [size for size, status in statuses.items() if status == 200]
        self.assertGreater(len(acknowledged), 3)
        self.assertLessEqual(set(statuses.values()), {200, 503})
        for size in acknowledged:
            self.assertEqual(len(node.get(str(size))), size // 2 * 2)
        self.assertEqual(node.stop(), 0)
