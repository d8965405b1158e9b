"""The options of ``twistd raftkv``, and the defaults that twistd gets from them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin, getPlugins
from twisted.scripts.twistd import ServerOptions
from twisted.trial.unittest import SynchronousTestCase

from raftkv.daemon import logs
from raftkv.tap import Options


class OptionsTests(SynchronousTestCase):
    """``twistd [options] raftkv --config FILE``."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        self.path = self.folder / "node.yaml"
        self.path.write_text(f"raft: {{nodeID: n, dataDir: {self.folder}/data, logLevel: warn}}")
        self.addCleanup(logs.choose, logs.LogChoice())

    def parse(self, *options: str) -> tuple[ServerOptions, Options]:
        """Parse a command line, as twistd does; return twistd's options and ours."""
        arguments = [*options, "raftkv", "--config", str(self.path)]
        self.patch(sys, "argv", ["twistd", *arguments])
        twistd = ServerOptions()
        twistd.parseOptions(arguments)
        return twistd, twistd.subOptions

    def test_foreground(self) -> None:
        """In the foreground there is no pid file, and the log goes to standard output at the configured level."""
        twistd, ours = self.parse("-n")
        self.assertEqual((twistd["pidfile"], ours.pidfile), ("", None))
        self.assertEqual(logs._chosen, logs.LogChoice(level="warn", path=None))
        self.assertIs(twistd["logger"], logs.observer)

    def test_daemon(self) -> None:
        """A daemon has both files in its data directory."""
        twistd, ours = self.parse()
        self.assertEqual((twistd["pidfile"], ours.pidfile), ("", f"{self.folder}/data/raftkv.pid"))
        self.assertEqual(logs._chosen, logs.LogChoice(level="warn", path=f"{self.folder}/data/raftkv.log"))

    def test_explicit_pid_file(self) -> None:
        """A pid file that is given is used, also in the foreground, abbreviated, and by twistd's own default name."""
        for options, path in (
            (["-n", "--pidfile=x.pid"], "x.pid"),
            (["-n", "--pidfile", "twistd.pid"], "twistd.pid"),
            (["--pidf=twistd.pid"], "twistd.pid"),
        ):
            self.assertEqual(self.parse(*options)[1].pidfile, os.path.abspath(path))
        self.assertIsNone(self.parse("--pidfile=")[1].pidfile)

    def test_explicit_log(self) -> None:
        """A log file that is given is used; a dash is standard output; syslog and another observer are left alone."""
        self.parse("--logfile=x.log")
        self.assertEqual(logs._chosen.path, os.path.abspath("x.log"))
        self.parse("-n", "--logfile=-")
        self.assertIsNone(logs._chosen.path)
        self.parse("--syslog", "--prefix=kv")
        self.assertEqual(logs._chosen.syslog_prefix, "kv")
        twistd, _ = self.parse("-n", "--logger=twisted.logger.globalLogPublisher")
        self.assertIsNot(twistd["logger"], logs.observer)

    def test_daemon_without_output(self) -> None:
        """A daemon cannot log to a standard output that it does not have."""
        self.assertIn("--logfile", str(self.assertRaises(SystemExit, self.parse, "--logfile=-")))

    def test_mistakes(self) -> None:
        """What is wrong with the configuration is one line."""
        self.path.write_text("raft: {}")
        error = self.assertRaises(SystemExit, self.parse, "-n")
        self.assertEqual(
            str(error).partition(", expected")[0], f"raftkv: {self.path}, line 1: raft.nodeID: found nothing"
        )

    def test_data_directory_is_absolute(self) -> None:
        """The data directory does not move with --rundir."""
        self.path.write_text("raft: {nodeID: n, dataDir: some/data}")
        self.assertEqual(self.parse("-n")[1].config.data_dir, os.path.abspath("some/data"))


class PluginTests(SynchronousTestCase):
    """The plugin."""

    def test_found_once(self) -> None:
        """twistd finds the plugin, under one name, with what it needs."""
        found = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "raftkv"]
        self.assertGreaterEqual(len(found), 1)
        self.assertEqual({plugin.module for plugin in found}, {"raftkv.tap"})
        self.assertTrue(IPlugin.providedBy(found[0]))
        self.assertIs(found[0].options, Options)
