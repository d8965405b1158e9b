"""How a node starts, refuses to start, and stops."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import yaml

from tests.functional.processes import ROOT, FunctionalTestCase, Node, free_port, is_ready

# Found by the child's interpreter before anything else: syncs fail once a file named "break" lies there.
BROKEN_SYNC = """
import errno, os
real = os.fdatasync
def fdatasync(descriptor):
    if os.path.exists("break"):
        raise OSError(errno.EIO, "Input/output error")
    real(descriptor)
os.fdatasync = fdatasync
"""


class StopTests(FunctionalTestCase):
    """The end of a process."""

    def test_signals(self) -> None:
        """SIGTERM and SIGINT stop a node with status 0, and it is found again with its data."""
        node = self.make_node()
        for number, value in ((signal.SIGTERM, "1"), (signal.SIGINT, "2")):
            node.start()
            self.wait_ready(node)
            self.assertEqual(node.set("k", value).status, 200)
            node.signal(number)
            self.assertEqual(node.wait(), 0, node.log())
            self.assertNotIn("Traceback", node.log())
        node.start()
        self.wait_ready(node)
        self.assertEqual(node.get("k"), "2")

    def test_reactor(self) -> None:
        """A node runs under a reactor of its own, unless the operator names another."""
        node = self.make_node()
        for option, name in ((), "raftkv.daemon.reactor.NodeReactor"), (("--reactor=poll",), "PollReactor"):
            node.options = ("-n", *option)
            node.start()
            self.wait_ready(node)
            self.assertEqual(node.set("k", name).status, 200)
            self.assertEqual(node.stop(), 0, node.log())
            self.assertIn(name, node.log())

    def test_stop_of_a_node_that_has_no_majority(self) -> None:
        """A node that cannot reach the others stops as cleanly as any."""
        nodes = self.make_cluster()
        survivor, *others = nodes
        for node in others:
            node.kill()
        self.assertEqual(survivor.stop(), 0, survivor.log())

    def test_failing_disk(self) -> None:
        """A sync that fails stops the process with a non-zero status and a last line that says why (B43)."""
        patch = self.folder / "patch"
        patch.mkdir()
        (patch / "sitecustomize.py").write_text(BROKEN_SYNC)
        node = self.make_node()
        node.start(first_path=str(patch))
        self.wait_ready(node)
        self.assertEqual(node.set("k", "kept").status, 200)
        (self.folder / "break").touch()
        try:
            answer = node.set("k", "lost")
        except OSError:
            pass  # the process may be gone before it answers
        else:
            self.assertGreaterEqual(answer.status, 500)
        self.assertEqual(node.wait(), 70, node.log())
        said = [line for line in node.log().splitlines() if "n1 stopped:" in line]
        self.assertEqual(len(said), 1)
        self.assertIn("Input/output error", said[0])
        (self.folder / "break").unlink()
        node.start()
        self.wait_ready(node)
        self.assertIn(node.get("k"), ("kept", "lost"))


class RefusedStartTests(FunctionalTestCase):
    """One line, no traceback, a status that is not 0; the same in the foreground and as a daemon."""

    def refused(self, node: Node, *parts: str) -> None:
        """Check that a node does not start, either way."""
        for mode in (("-n",), ()):
            self.assert_refused(self.run_twistd(*mode, "raftkv", "--config", node.path.name), *parts)

    def test_wrong_configuration(self) -> None:
        """A mistake in the file is told with file, line, key, what was found and what was expected."""
        node = self.make_node(logLevel="loud")
        self.refused(node, "n1.yaml, line ", "raft.logLevel: found text 'loud', expected one of debug, info, warn")

    def test_missing_configuration(self) -> None:
        """Without --config, and with a file that does not exist, the line says so."""
        self.assert_refused(self.run_twistd("-n", "raftkv"), "--config is missing")
        done = self.run_twistd("-n", "raftkv", "--config", "none.yaml")
        self.assert_refused(done, "none.yaml: the configuration cannot be read: No such file or directory")

    def test_port_in_use(self) -> None:
        """Each of the three ports that is taken is named with its setting."""
        for setting in ("rpcAddr", "httpAddr", "raft.bindAddr"):
            with socket.create_server(("127.0.0.1", free_port())) as taken:
                address = f"127.0.0.1:{taken.getsockname()[1]}"
                node = self.make_node(**{setting.removeprefix("raft."): address})
                self.refused(node, f"{setting}: cannot listen on {address}: the port is in use")

    def test_data_directory_in_use(self) -> None:
        """A second process on one data directory is refused, and the first one goes on."""
        first = self.make_node()
        first.start()
        self.wait_ready(first)
        second = self.make_node("n2", dataDir="data/n1")
        self.refused(second, str(first.data_dir), "is in use by another process")
        self.assertEqual(first.set("k", "v").status, 200)

    def test_data_directory_of_another_node(self) -> None:
        """The data directory of another node is refused."""
        first = self.make_node()
        first.start()
        self.wait_ready(first)
        first.stop()
        self.refused(self.make_node("n2", dataDir="data/n1"), str(first.data_dir), "n1", "n2")

    def test_data_directory_that_cannot_be_made(self) -> None:
        """A data directory that cannot be made is refused."""
        (self.folder / "file").write_text("in the way")
        self.refused(self.make_node(dataDir="file/data"), "file/data", "Not a directory")


class ForegroundTests(FunctionalTestCase):
    """``twistd -n raftkv``."""

    def test_original_nine_settings(self) -> None:
        """The example with the original nine settings starts a cluster of one, and kill -9 loses nothing."""
        text = (ROOT / "conf" / "single.yaml").read_text()
        settings = yaml.safe_load(text)
        self.assertEqual(sorted(settings), ["httpAddr", "raft", "rpcAddr"])
        self.assertEqual(len(settings) - 1 + len(settings["raft"]), 9)
        http_port = free_port()
        settings["httpAddr"] = f"127.0.0.1:{http_port}"
        settings["rpcAddr"] = f"127.0.0.1:{free_port()}"
        settings["raft"]["bindAddr"] = f"127.0.0.1:{free_port()}"
        node = Node(self.folder, "single", settings, http_port)
        self.nodes.append(node)
        for start in range(3):
            node.start()
            self.wait_ready(node)
            for number in range(start):
                self.assertEqual(node.get(f"k{number}"), "v")
            self.assertEqual(node.set(f"k{start}", "v").status, 200)
            node.kill()

    def test_stale_pid_file_of_twistd(self) -> None:
        """A twistd.pid in the working directory, stale or somebody's, never stops a start."""
        for content in (str(os.getpid()), "rubbish"):
            (self.folder / "twistd.pid").write_text(content)
            node = self.make_node()
            node.start()
            self.wait_ready(node)
            self.assertEqual(node.stop(), 0)
            self.assertEqual((self.folder / "twistd.pid").read_text(), content)

    def test_log_level(self) -> None:
        """With logLevel warn, a start and a stop without trouble say nothing."""
        node = self.make_node(logLevel="warn")
        node.start()
        self.wait_ready(node)
        self.assertEqual(node.stop(), 0)
        self.assertEqual(node.log(), "")

    def test_warning_about_authentication(self) -> None:
        """Listeners that others can reach bring one warning; those on the loopback bring none."""
        closed = self.make_node()
        port = free_port()
        opened = self.make_node("n2", rpcAddr=f":{free_port()}", httpAddr=f":{port}")
        opened.http_port = port
        for node, count in ((closed, 0), (opened, 1)):
            node.start()
            self.wait_ready(node)
            self.assertEqual(node.log().count("no authentication"), count)

    def test_every_interface(self) -> None:
        """A node that listens on every interface answers on IPv4 and, where there is one, on IPv6."""
        port = free_port()
        node = self.make_node(httpAddr=f":{port}")
        node.http_port = port
        node.start()
        self.wait_ready(node)
        with socket.create_connection(("localhost", port), timeout=5):
            pass


class DaemonTests(FunctionalTestCase):
    """``twistd raftkv``."""

    def daemonize(self, node: Node, *options: str) -> None:
        """Start a node as a daemon, and wait until it is ready."""
        done = self.run_twistd(*options, "raftkv", "--config", node.path.name)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.wait_ready(node)

    def end(self, node: Node, pidfile: Path) -> None:
        """Stop a daemon by its pid file, and wait until both are gone."""
        os.kill(int(pidfile.read_text()), signal.SIGTERM)
        self.wait_until(lambda: not pidfile.exists(), f"{pidfile} to disappear")
        self.wait_until(lambda: not is_ready(node), "the daemon to close its port")

    def test_daemon(self) -> None:
        """A daemon keeps its log and its process id in its data directory, and stops on SIGTERM."""
        node = self.make_node()
        self.daemonize(node)
        self.assertEqual(node.set("k", "v").status, 200)
        self.assertIn("leader", (node.data_dir / "raftkv.log").read_text())
        self.end(node, node.data_dir / "raftkv.pid")
        self.assertIn("Server Shut Down", (node.data_dir / "raftkv.log").read_text())
        self.assertFalse((self.folder / "twistd.pid").exists())
        self.assertFalse((self.folder / "twistd.log").exists())

    def test_stale_pid_file(self) -> None:
        """A pid file that a crash left behind never stops a start, whosever the number is now."""
        node = self.make_node()
        node.data_dir.mkdir(parents=True)
        pidfile = node.data_dir / "raftkv.pid"
        for content in (str(os.getpid()), "rubbish"):
            pidfile.write_text(content)
            self.daemonize(node)
            self.end(node, pidfile)

    def test_explicit_files_win(self) -> None:
        """--pidfile and --logfile are taken as they are given."""
        node = self.make_node()
        self.daemonize(node, "--pidfile=mine.pid", "--logfile=mine.log")
        self.assertIn("leader", (self.folder / "mine.log").read_text())
        self.assertFalse((node.data_dir / "raftkv.pid").exists())
        self.end(node, self.folder / "mine.pid")

    def test_standard_pid_file_when_named(self) -> None:
        """Even the name that is twistd's own default is used when it is given."""
        node = self.make_node()
        self.daemonize(node, "--pidfile=twistd.pid")
        self.end(node, self.folder / "twistd.pid")

    def test_data_directory_in_use_by_a_daemon(self) -> None:
        """The lock of the directory outlives the fork of a daemon."""
        node = self.make_node()
        self.daemonize(node)
        second = self.make_node("n2", dataDir="data/n1")
        started = time.monotonic()
        self.assert_refused(self.run_twistd("raftkv", "--config", second.path.name), "is in use by another process")
        self.assertLess(time.monotonic() - started, 20)
        self.end(node, node.data_dir / "raftkv.pid")
