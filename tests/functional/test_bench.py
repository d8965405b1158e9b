"""``raftkv bench`` against real clusters."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from tests.functional.processes import RAFTKV, FunctionalTestCase, Node, environment, free_port


class BenchTests(FunctionalTestCase):
    """The command."""

    def arguments(self, node: Node, *more: str) -> list[str]:
        """Return a command line."""
        return [*RAFTKV, "bench", "-a", node.url, *more]

    def bench(self, node: Node, *more: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.arguments(node, *more),
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def keys(self, node: Node) -> int:
        """Return how many keys there are."""
        return int(node.request("GET", "/v1/kv?prefix=&count_only=true").json["count"])

    def said(self) -> str:
        """Return what the command that was begun has written so far."""
        return (self.folder / "bench.out").read_text()

    def begin(self, node: Node, *more: str) -> subprocess.Popen[str]:
        """Start it with its output in a file, where it writes as to a terminal."""
        return subprocess.Popen(
            self.arguments(node, *more),
            cwd=self.folder,
            env=environment({"FORCE_COLOR": "1", "NO_COLOR": "1"}),
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "bench.out").open("w"),
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def test_every_way(self) -> None:
        """Each way and each work gives figures of the leader without an error, and leaves no key."""
        nodes = self.make_cluster()
        leader = self.leader(nodes)
        other = next(node for node in nodes if node is not leader)
        other.set("mine", "precious")
        for via, work in (("native", "put"), ("http", "mixed"), ("client", "get"), ("native", "get-stale")):
            done = self.bench(
                *(other, "--via", via, "--work", work, "--seconds", "0.4", "--warmup", "0.1", "--keys", "1200"),
                *("--prefix", "b ä/", "--json"),
            )
            self.assertEqual((done.returncode, "Traceback" in done.stderr), (0, False), done)
            told: dict[str, Any] = json.loads(done.stdout)
            self.assertEqual((told["leader"], told["via"], told["work"]), (leader.name, via, work))
            self.assertGreater(told["requests"], 0)
            self.assertEqual((told["errors"], told["leader_changes"], told["interrupted"]), ({}, [], False))
            self.assertTrue(0 < told["p50_ms"] <= told["p90_ms"] <= told["p99_ms"] <= told["p999_ms"] <= told["max_ms"])
            self.assertEqual(sum(bar["count"] for bar in told["histogram"]), told["requests"])
            self.assertGreater(told["deleted_keys"], 0)
            self.assertIn(f"{leader.name} in term", done.stderr)
            self.assertEqual((self.keys(other), other.get("mine")), (1, "precious"))

    def test_rate_and_counted_requests(self) -> None:
        """A rate is kept, and a number of requests too, by the loop and by the client."""
        node = self.make_node()
        node.start()
        self.wait_ready(node)
        for via in ("native", "client"):
            done = self.bench(node, "--via", via, "--requests", "60", "--rate", "100", "--json")
            told = json.loads(done.stdout)
            self.assertEqual((told["requests"], told["error_count"], told["unsent"]), (60, 0, 0), done)
            self.assertTrue(told["seconds"] > 0.55, told)  # the last one is due after 0.59 s
        self.assertEqual(self.keys(node), 0)

    def test_keys_that_exist(self) -> None:
        """It refuses a prefix with keys; told to overwrite, it deletes its own names alone; --clean loads nothing."""
        node = self.make_node()
        node.start()
        self.wait_ready(node)
        quick = ("--requests", "50", "--keys", "10")
        self.assertEqual(self.bench(node, *quick, "--keep").returncode, 0)
        self.assertEqual(self.keys(node), 10)
        node.set("raftkv-bench/notes", "mine")
        refused = self.bench(node, *quick)
        self.assertEqual((refused.returncode, refused.stdout), (1, ""))
        self.assertIn("11 keys begin with 'raftkv-bench/' already", refused.stderr)
        self.assertEqual(self.keys(node), 11)
        self.assertEqual(self.bench(node, *quick, "--overwrite", "--keep").returncode, 0)
        cleaned = self.bench(node, "--clean")
        self.assertEqual((cleaned.returncode, cleaned.stdout), (0, "10 keys deleted\n"))
        cleaned = self.bench(node, "--clean", "--json")
        self.assertEqual((cleaned.returncode, json.loads(cleaned.stdout)), (0, {"deleted_keys": 0}))
        self.assertEqual((self.keys(node), node.get("raftkv-bench/notes")), (1, "mine"))

    def test_refused_by_the_cluster(self) -> None:
        """A value that is too large is named with its limit; a cluster that is not there is one line."""
        node = self.make_node(limits={"maxValueBytes": 1000})
        node.start()
        self.wait_ready(node)
        done = self.bench(node, "--value-bytes", "1001")
        self.assertEqual(done.returncode, 1)
        self.assertIn("limits.maxValueBytes", done.stderr)
        done = self.bench(node, "--prefix", "p" * 4090)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--prefix of 4090 bytes: key", done.stderr)
        self.assertIn("limits.maxKeyBytes", done.stderr)
        self.assertEqual(self.keys(node), 0)
        nobody = self.make_node("n2")
        nobody.http_port = free_port()
        done = self.bench(nobody, "--timeout", "0.5")
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
        self.assertIn(f"no cluster is reached at {nobody.url}: ", done.stderr)

    def test_interrupted(self) -> None:
        """Ctrl-C ends the load, gives the figures up to then, and cleans up."""
        node = self.make_node()
        node.start()
        self.wait_ready(node)
        command = self.begin(node, "--seconds", "600", "--warmup", "0")
        self.wait_until(lambda: self.keys(node) > 100, "the load to write")
        command.send_signal(signal.SIGINT)
        self.assertEqual(command.wait(60), 128 + signal.SIGINT)
        self.assertIn("interrupted", self.said())
        self.assertRegex(self.said(), r"[\d,]+ keys deleted")
        self.assertEqual(self.keys(node), 0)

    def load_over_a_change(self, end: Callable[[Node], object], *options: str) -> dict[str, Any]:
        """Load a cluster, end its leader, let the next one serve for a while, interrupt; return the figures.

        :param end: what ends the leader.
        """
        nodes = self.make_cluster()
        leader = self.leader(nodes)
        rest = [node for node in nodes if node is not leader]
        command = self.begin(leader, "--seconds", "600", "--warmup", "0", "--json", *options)
        self.wait_until(lambda: self.keys(rest[0]) > 100, "the load to write")
        end(leader)
        next_leader = self.leader(rest)
        self.wait_until(lambda: f"{next_leader.name} leads in term" in self.said(), "the change to be told")
        before = next_leader.status()["revision"]
        self.wait_until(lambda: next_leader.status()["revision"] > before + 100, "the load to go on")
        command.send_signal(signal.SIGINT)
        self.assertEqual(command.wait(60), 128 + signal.SIGINT)
        self.assertNotIn("Traceback", self.said())
        told: dict[str, Any] = json.loads(self.said()[self.said().index("\n{") :])
        self.assertEqual(told["leader_changes"][-1]["leader"], next_leader.name)
        self.assertGreater(told["requests"], 100)
        self.assertEqual(self.keys(next_leader), 0)
        return told

    def test_leader_dies(self) -> None:
        """The load goes on with the next leader; what was lost is an error of its own kind, and the change is told."""
        self.assertIn("connection_lost", self.load_over_a_change(Node.kill)["errors"])

    def test_leader_dies_over_http(self) -> None:
        """So it does over HTTP, where each request has a connection, and no more is lost than was under way."""
        told = self.load_over_a_change(Node.kill, "--via", "http", "--outstanding", "16")
        self.assertIn(told["errors"]["connection_lost"], range(1, 17))

    def test_leader_dies_over_http_at_a_rate(self) -> None:
        """At a rate, too: what was due while nobody led is late, and not lost."""
        told = self.load_over_a_change(Node.kill, "--via", "http", "--outstanding", "16", "--rate", "400")
        self.assertLessEqual(told["errors"].get("connection_lost", 0), 16)
        self.assertNotIn(0, told["errors"].values())

    def test_leader_stops_over_http(self) -> None:
        """A leader that is stopped answers what it has, and says that it answers no more: no request is lost."""
        told = self.load_over_a_change(Node.stop, "--via", "http", "--outstanding", "16")
        self.assertNotIn("connection_lost", told["errors"])
