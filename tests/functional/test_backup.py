"""A backup of a running cluster becomes another cluster."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.functional.load import Load
from tests.functional.processes import RAFTKV, Node, environment, free_port, sleep
from tests.functional.test_cluster import ClusterTestCase

MARGIN = 1_000_000_000


class BackupTestCase(ClusterTestCase):
    """What the tests of backups share."""

    def run_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, on the reactor's thread or another."""
        return subprocess.run(
            [*RAFTKV, "snapshot", *arguments],
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def facts(self, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
        """Return what a command has told as JSON."""
        self.assertEqual(done.returncode, 0, done.stderr)
        value: dict[str, Any] = json.loads(done.stdout)
        return value

    def save(self, node: Node, file: str) -> Deferred[subprocess.CompletedProcess[str]]:
        """Fetch a backup while the reactor goes on."""
        saved: Deferred[subprocess.CompletedProcess[str]] = deferToThread(
            self.run_command, "save", file, "--address", node.url, "--json"
        )
        return saved

    def make_other_cluster(self, *options: str) -> tuple[list[Node], list[dict[str, Any]]]:
        """Restore into three more directories, and start a cluster on them."""
        peers = {f"m{number}": f"127.0.0.1:{free_port()}" for number in (1, 2, 3)}
        nodes = [self.make_node(name, peers=peers) for name in peers]
        told = [
            self.facts(self.run_command("restore", *options, "--config", node.path.name, "--json")) for node in nodes
        ]
        for node in nodes:
            node.start()
        self.wait_ready(*nodes)
        return nodes, told


class BackupTests(BackupTestCase):
    """``raftkv snapshot``."""

    async def test_save_and_restore_under_load(self) -> None:
        """B61: all that was acknowledged before the backup is in the new cluster, at revisions that the old one never
        had; those of the old one are compacted, and its nodes are refused."""
        nodes = self.make_cluster()
        load = Load(nodes)
        await sleep(1.5)
        follower = next(node for node in nodes if node is not self.leader(nodes))
        acknowledged = dict(load.acknowledged)
        saved = self.facts(await self.save(follower, "backup"))
        await sleep(0.5)
        await load.stop()
        self.assertGreater(len(load.acknowledged), len(acknowledged))
        latest = max(node.status()["revision"] for node in nodes)
        self.assertLess(saved["revision"], latest)

        facts = self.facts(self.run_command("status", "backup", "--json"))
        self.assertEqual(
            {name: facts[name] for name in ("index", "revision", "checksum", "bytes")},
            {name: saved[name] for name in ("index", "revision", "checksum", "bytes")},
        )
        others, told = self.make_other_cluster("backup")
        self.assertEqual(len({each["cluster_id"] for each in told}), 1)
        status = others[0].status()
        self.assertEqual(
            (status["cluster_id"], facts["cluster_id"]), (told[0]["cluster_id"], nodes[0].status()["cluster_id"])
        )
        self.assertNotEqual(status["cluster_id"], facts["cluster_id"])
        self.assertEqual((status["revision"], status["compact_revision"]), (saved["revision"] + MARGIN,) * 2)
        self.assertGreater(status["compact_revision"], latest)
        self.assertEqual(status["keys"], facts["keys"])

        load.acknowledged = acknowledged
        for node in others:
            await self.verify(node, load)
        self.assertEqual(others[1].set("after", "1").json["revision"], saved["revision"] + MARGIN + 1)
        self.assert_same_state(others)
        for node in others:
            self.assertEqual(node.stop(), 0)
        for node in others:
            node.start()
        self.wait_ready(*others)
        await self.verify(others[2], load)
        print(
            f"\n      {saved['bytes']} bytes saved under load, {len(acknowledged)} acknowledged writes all there, "
            f"revision {saved['revision']} goes on at {status['revision']} ",
            end="",
        )

    def test_over_http(self) -> None:
        """Snapshots are taken, listed, and fetched in parts, with any client."""
        (node,) = self.make_cluster(1)
        node.set("k", "v")
        taken = node.request("POST", "/v1/snapshots").json
        self.assertEqual(node.request("GET", "/v1/snapshots").json, {"snapshots": [taken]})
        self.assertEqual(node.request("POST", "/v1/snapshots").json, taken)
        whole = node.request("GET", "/v1/snapshots/latest")
        self.assertEqual((whole.status, len(whole.body)), (200, taken["bytes"]))
        self.assertEqual(whole.headers["x-raft-snapshot-checksum"], taken["checksum"])
        rest = node.request(
            "GET", "/v1/snapshots/latest", headers={"Range": "bytes=100-", "If-Range": whole.headers["etag"]}
        )
        self.assertEqual((rest.status, rest.body), (206, whole.body[100:]))
        node.set("k", "w")
        fresh = node.request("GET", "/v1/snapshots/latest?fresh=true")
        self.assertEqual(int(fresh.headers["x-raft-snapshot-revision"]), taken["revision"] + 1)
        (self.folder / "copy").write_bytes(fresh.body)
        self.assertEqual(self.facts(self.run_command("status", "copy", "--json"))["keys"], 1)
        self.assertEqual(sorted(path.name for path in Path(self.folder).glob("copy*")), ["copy"])

    def test_point_in_time(self) -> None:
        """A cluster whose nodes are all lost is made anew from their archive alone, up to a revision or a time."""
        archive = self.folder / "archive"
        archive.mkdir()
        nodes = self.make_cluster(
            archiveDir="archive", archiveInterval=0.5, snapshotInterval=0.2, snapshotThreshold=20_000, maxSnapshots=1
        )
        answers = [nodes[number % 3].set(f"k{number % 10}", f"{number} " + "x" * 1000) for number in range(150)]
        self.assertEqual({answer.status for answer in answers}, {200})
        before = datetime.now(UTC)
        revision = answers[-1].json["revision"]
        time.sleep(0.05)
        for number in range(10):
            self.assertEqual(nodes[0].request("DELETE", f"/delete?key=k{number}").status, 200)
        archived = nodes[0].request("POST", "/v1/archive").json
        self.assertGreaterEqual(archived["archived_index"], 160)
        self.assertEqual(nodes[0].status()["alarms"], [])
        for node in nodes:
            node.kill()
        lost = self.run_command("restore", "--archive", "archive", "--config", nodes[0].path.name)
        self.assertIn("is not empty", lost.stderr)

        options = ("--archive", "archive", "--to-revision", str(revision - 3))
        others, told = self.make_other_cluster(*options)
        self.assertEqual({each["restored_revision"] for each in told}, {revision - 3})
        self.assertEqual(len({each["cluster_id"] for each in told}), 1)
        for number in range(10):
            newest = 140 + number - (10 if number > 6 else 0)
            self.assertEqual(others[number % 3].get(f"k{number}"), f"{newest} " + "x" * 1000)
        for node in others:
            node.kill()

        alone = self.make_node("m9")
        made = self.facts(
            self.run_command(
                "restore", *options[:2], "--to-time", before.isoformat(), "--config", alone.path.name, "--json"
            )
        )
        self.assertEqual((made["restored_revision"], made["keys"]), (revision, 10))
        gone = sorted(archive.rglob("*.entries"))
        for path in gone:
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        damaged = self.run_command("restore", *options, "--config", self.make_node("m8").path.name)
        self.assertEqual((damaged.returncode, len(damaged.stderr.splitlines())), (1, 1), damaged.stderr)
        self.assertIn("at offset", damaged.stderr)
        print(f"\n      {len(gone)} files of entries in the archive, {made['replayed_entries']} replayed ", end="")
