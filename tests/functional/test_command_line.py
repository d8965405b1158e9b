"""The ``raftkv`` command against real nodes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess

from tests.functional.processes import RAFTKV, FunctionalTestCase, Node, environment, free_port


class CommandTests(FunctionalTestCase):
    """``raftkv get``, ``set``, ``delete`` and ``status``."""

    def raftkv(self, *arguments: str, data: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            [*RAFTKV, *arguments],
            cwd=self.folder,
            env=environment(),
            input=data or "",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_keys(self) -> None:
        """A key is set, read and deleted; a missing one is an error of its own."""
        node = self.make_node()
        node.start()
        self.wait_ready(node)
        self.assertEqual(self.raftkv("set", "k", "v", "-a", node.url).stdout, "revision 1\n")
        self.assertEqual(self.raftkv("set", "long", "-a", node.url, data="a\nb\n").stdout, "revision 2\n")
        self.assertEqual(self.raftkv("get", "long", "-a", node.url).stdout, "a\nb\n")
        self.assertEqual(self.raftkv("delete", "k", "-a", node.url).stdout, "deleted, revision 3\n")
        self.assertEqual(self.raftkv("delete", "k", "-a", node.url).stdout, "not there, revision 3\n")
        missing = self.raftkv("get", "k", "-a", node.url)
        self.assertEqual((missing.returncode, missing.stdout, missing.stderr), (1, "", "Error: there is no key 'k'\n"))

    def test_no_server(self) -> None:
        """A cluster that does not answer is one line with a non-zero status."""
        done = self.raftkv("get", "k", "-a", f"http://127.0.0.1:{free_port()}", "--timeout", "0.5")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("Error: "))

    def test_status(self) -> None:
        """The status has a line for each member, and as JSON everything that the nodes say."""
        nodes = self.make_cluster()
        nodes[0].set("k", "v")
        table = self.raftkv("status", "-a", nodes[1].url)
        self.assertEqual(table.returncode, 0, table.stderr)
        self.assertIn(f"{self.leader(nodes).name} leads in term", table.stdout)
        value = json.loads(self.raftkv("status", "--json", "-a", nodes[1].url).stdout)
        self.assertEqual(sorted(value["nodes"]), ["n1", "n2", "n3"])
        nodes[2].kill()
        self.assertIn("no answer", self.raftkv("status", "-a", nodes[1].url, "-a", nodes[0].url).stdout)


class LocalClusterTests(FunctionalTestCase):
    """``raftkv cluster``."""

    def configurations(self) -> list[Node]:
        """Return three nodes that are not started."""
        peers = {name: f"127.0.0.1:{free_port()}" for name in ("n1", "n2", "n3")}
        return [self.make_node(name, peers=peers) for name in peers]

    def begin(self, nodes: list[Node]) -> subprocess.Popen[str]:
        """Start the command."""
        command = subprocess.Popen(
            [*RAFTKV, "cluster", *(node.path.name for node in nodes)],
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "cluster.out").open("w"),
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(self.end, command)
        return command

    def end(self, command: subprocess.Popen[str]) -> None:
        """Make sure that the command and its nodes are gone."""
        if command.poll() is None:
            command.send_signal(signal.SIGINT)
            command.wait(60)

    def said(self) -> str:
        """Return what the command has printed."""
        return (self.folder / "cluster.out").read_text()

    def test_start_use_kill_stop_start(self) -> None:
        """It tells who leads and what to try, reports a node that dies, stops cleanly, and finds its data again."""
        nodes = self.configurations()
        command = self.begin(nodes)
        self.wait_until(lambda: "Ctrl-C stops" in self.said(), "the cluster to come up")
        self.assertRegex(self.said(), r"n\d leads in term \d+; 0 keys at revision 0")
        self.assertIn(f"curl -X POST {nodes[0].url}/set", self.said())
        self.assertEqual(nodes[0].set("greeting", "hello").status, 200)
        command.send_signal(signal.SIGINT)
        self.assertEqual(command.wait(60), 0, self.said())
        self.assertIn("all nodes have stopped cleanly", self.said())

        command = self.begin(nodes)
        self.wait_until(lambda: "Ctrl-C stops" in self.said(), "the cluster to come up again")
        self.assertIn("1 keys at revision 1", self.said())
        leader = self.leader_of(nodes)
        pid = next(int(line.split(" pid ")[1].split()[0]) for line in self.said().splitlines() if leader.url in line)
        subprocess.run(["kill", "-9", str(pid)], check=True)
        self.wait_until(lambda: f"{leader.name} was ended by SIGKILL" in self.said(), "the death to be told")
        self.wait_until(lambda: self.said().count(" leads in term") == 2, "the new leader to be told")
        command.send_signal(signal.SIGINT)
        self.assertEqual(command.wait(60), 1, self.said())

    def test_port_in_use(self) -> None:
        """A port in use is told, and no node is left behind."""
        nodes = self.configurations()
        with socket.create_server(("127.0.0.1", nodes[1].http_port)):
            command = self.begin(nodes)
            self.assertEqual(command.wait(60), 1)
        self.assertIn("n2 did not start: ended with status 1: httpAddr: cannot listen on 127.0.0.1:", self.said())
        self.assertIsNone(nodes[0].status())

    def leader_of(self, nodes: list[Node]) -> Node:
        """Return the node that leads; these nodes are the command's children, not ours."""
        return self.wait_until(
            lambda: next((n for n in nodes if (s := n.status()) and s["role"] == "leader"), None), "a leader"
        )
