"""``raftkv recover``: what it asks, what it says, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from raftkv.cli.main import main
from raftkv.persistence.directory import open_directory
from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.log import LogSettings
from raftkv.persistence.meta import Meta, load_meta


class RecoverTests(SynchronousTestCase):
    """The directory of a node that has not done anything yet."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        disk = LocalDisk(self.path)
        disk.prepare()
        self.meta = open_directory(
            disk,
            node_id="n1",
            cluster_id="c1",
            make_identity=lambda: ("c1", "i1"),
            settings=LogSettings(segment_bytes=4096),
        )
        disk.release()

    def run_command(self, *more: str, answer: str = "", path: str = "") -> Result:
        """Run the command to its end."""
        arguments = ["recover", path or self.path, "--force-new-cluster", "--node-id", "n1", *more]
        return CliRunner().invoke(main, arguments, input=answer)

    def found(self) -> Meta | None:
        """Return whose directory it is now."""
        return load_meta(LocalDisk(self.path))

    def test_asks(self) -> None:
        """Without a yes nothing changes; it says first what it has found and what is at stake."""
        done = self.run_command("--raft-addr", "h:1", answer="n\n")
        self.assertEqual(done.exit_code, 1)
        for part in ("cluster c1", "last entry 0", "revision 0", "entries behind it", "lost", "never run again"):
            self.assertIn(part, done.output)
        self.assertEqual(self.found(), self.meta)

    def test_yes(self) -> None:
        """With a yes there is a new cluster; its id is told."""
        done = self.run_command("--raft-addr", "h:1", answer="y\n")
        found = self.found()
        assert found is not None
        self.assertEqual((done.exit_code, found.former_cluster_id), (0, "c1"))
        self.assertIn(found.cluster_id, done.output)

    def test_json(self) -> None:
        """As JSON everything comes as one object; it does not ask, and says so."""
        self.assertEqual(self.run_command("--json").exit_code, 2)
        done = self.run_command("--json", "--yes", "--raft-addr", "h:1")
        value, found = json.loads(done.output), self.found()
        assert found is not None
        self.assertEqual((value["old_cluster_id"], value["cluster_id"]), ("c1", found.cluster_id))
        self.assertEqual((value["last_index"], value["kept_entries"]), (0, 0))

    def test_refused(self) -> None:
        """No address, another node's directory, none at all, one in use: one line each, and nothing changes."""
        self.assertIn("--raft-addr", self.run_command("--yes").stderr)
        done = CliRunner().invoke(main, ["recover", self.path, "--force-new-cluster", "--node-id", "n2", "--yes"])
        self.assertIn("belongs to node 'n1'", done.stderr)
        self.assertIn("there is no directory", self.run_command("--yes", path=f"{self.path}/none").stderr)
        self.assertFalse(Path(f"{self.path}/none").exists())
        disk = LocalDisk(self.path)
        disk.prepare()
        self.addCleanup(disk.release)
        done = self.run_command("--yes", "--raft-addr", "h:1")
        self.assertEqual((done.exit_code, self.found()), (1, self.meta))
        self.assertIn("is in use by", done.stderr)

    def test_damaged(self) -> None:
        """A directory that cannot be trusted is one line that names the file, and is left as it was."""
        for name in ("hardstate", "meta"):
            path = Path(self.path) / name
            path.write_bytes(b"x" * path.stat().st_size)
            done = self.run_command("--yes", "--raft-addr", "h:1")
            self.assertEqual(done.exit_code, 1)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(name, done.stderr)

    def test_needs_force(self) -> None:
        """Nobody comes here by mistake: the option that names the deed is required."""
        done = CliRunner().invoke(main, ["recover", self.path, "--node-id", "n1"])
        self.assertEqual(done.exit_code, 2)
        self.assertIn("--force-new-cluster", done.stderr)
