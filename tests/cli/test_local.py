"""What ``raftkv cluster`` notices and says."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from raftkv.cli import main
from raftkv.cli.localnode import LocalNode
from raftkv.cli.watching import LeaderWatch
from raftkv.config import NodeConfig


class LeaderWatchTests(SynchronousTestCase):
    """Who leads, from what each node says."""

    def setUp(self) -> None:
        configs = [NodeConfig(node_id=name, data_dir=name) for name in ("a", "b")]
        self.said: dict[str, Any] = {}
        self.watch = LeaderWatch(configs, lambda config: self.said.get(config.node_id))

    def says(self, name: str, role: str, term: int) -> None:
        """Let a node say something of itself."""
        self.said[name] = {"node_id": name, "role": role, "term": term, "revision": term * 10, "keys": term}

    def test_changes_are_told_once(self) -> None:
        """A leader is told when it is new, not again, and not while nobody leads."""
        self.assertIsNone(self.watch.look())
        self.says("a", "leader", 1)
        self.assertEqual(self.watch.look(), "a leads in term 1")
        self.assertIsNone(self.watch.look())
        self.says("a", "follower", 2)
        self.assertIsNone(self.watch.look())
        self.says("b", "leader", 2)
        self.assertEqual(self.watch.look(), "b leads in term 2")

    def test_two_that_believe_to_lead(self) -> None:
        """Of two that believe to lead, the one of the later term does (section 5.1)."""
        self.says("a", "leader", 1)
        self.says("b", "leader", 3)
        self.assertEqual(self.watch.look(), "b leads in term 3")
        del self.said["b"]
        self.assertIsNone(self.watch.look())

    def test_summary(self) -> None:
        """The summary says what the store holds, as the node that is furthest knows it."""
        self.assertEqual(self.watch.summary(), "no leader is known")
        self.says("a", "leader", 2)
        self.says("b", "follower", 1)
        self.watch.look()
        self.assertEqual(self.watch.summary(), "a leads in term 2; 2 keys at revision 20")


class CommandTests(SynchronousTestCase):
    """The command itself."""

    def test_wrong_configuration(self) -> None:
        """A configuration that is missing is one line with status 1, and nothing is started."""
        result = CliRunner().invoke(main, ["cluster", "none.yaml"])
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(
            result.output, "Error: none.yaml: the configuration cannot be read: No such file or directory\n"
        )

    def test_help(self) -> None:
        """Every subcommand is listed with what it does, in a whole sentence."""
        told = CliRunner().invoke(main, ["--help"]).output
        for name in ("cluster", "status", "get", "set", "delete"):
            self.assertIn(f"\n  {name} ", told)
        for group in ("member", "snapshot", "wal"):
            told += CliRunner().invoke(main, [group, "--help"]).output
        self.assertNotIn("...\n", told.replace("[OPTIONS] COMMAND [ARGS]...\n", ""))

    def test_command_line_of_a_node(self) -> None:
        """A node that died is told with what would start it again."""
        node = LocalNode("conf/n.yaml", NodeConfig(node_id="n", data_dir="data/n"))
        self.assertEqual(node.command_line(), "twistd -n raftkv --config conf/n.yaml")
