"""``raftkv wal``: what it says of a sound log and of a damaged one, and that it changes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from raftkv.cli.main import main
from raftkv.persistence.directory import open_directory
from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.hardstate import HardStateFile
from raftkv.persistence.log import LogSettings, SegmentedLog
from raftkv.persistence.segment import log_identity
from raftkv.raft.messages import Entry, EntryKind, HardState

SETTINGS = LogSettings(segment_bytes=4096, max_batch_bytes=2048, zero_ahead_bytes=0)


class WalTests(SynchronousTestCase):
    """The directory of a node that is stopped: twenty entries in two segments."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        disk = LocalDisk(self.path)
        disk.prepare()
        open_directory(disk, node_id="n1", cluster_id="c1", make_identity=lambda: ("c1", "i1"), settings=SETTINGS)
        log = SegmentedLog(disk, log_identity("c1", "i1"), SETTINGS)
        log.recover(lambda done, all_of_it: None)
        for index in range(1, 21):
            payload = b"secret%d " % index * 30
            log.append([Entry(index=index, term=1 + index // 15, kind=EntryKind.COMMANDS, payload=payload)])
            log.commit()
        log.close()
        file = HardStateFile(disk)
        file.store(HardState(term=2, voted_for="n2"), log_batch=20)
        file.close()
        disk.release()
        self.first, self.second = sorted((self.path / "log").iterdir())

    def run_command(self, *arguments: str) -> Result:
        """Run the command to its end, and make sure that nothing has changed."""
        before = self.content()
        result = CliRunner().invoke(main, ["wal", *arguments])
        self.assertEqual(before, self.content())
        return result

    def content(self) -> dict[str, bytes]:
        """Return all files."""
        paths = [Path(folder) / name for folder, _, names in os.walk(self.path) for name in names]
        return {str(path): path.read_bytes() for path in paths}

    def spoil(self, path: Path, offset: int, length: int = 1) -> None:
        """Overwrite some bytes."""
        image = bytearray(path.read_bytes())
        image[offset : offset + length] = b"\xee" * length
        path.write_bytes(image)

    def test_sound(self) -> None:
        """A sound log: whose it is, the vote, the segments with their ranges, and status 0."""
        result = self.run_command("check", str(self.path))
        self.assertEqual(result.exit_code, 0, result.output)
        for part in (
            "node n1 of cluster c1",
            "term 2, voted for n2",
            "0000000000000001.segment",
            "1..12",
            "13..20",
            "1..2",
            "log: entries 1 to 20, the last of term 2",
            "everything checks out",
        ):
            self.assertIn(part, result.output)

    def test_damaged_payload(self) -> None:
        """B41: a damaged payload is named with its file, its place and its entry; the status is 1."""
        self.spoil(self.first, 1000)
        result = self.run_command("check", str(self.path))
        self.assertEqual(result.exit_code, 1)
        self.assertIn(f"{self.first.resolve()}: bytes ", result.output)
        self.assertIn("the payload of entry 2 of term 1 does not check out", result.output)
        self.assertIn("missing: entries 2 to 2", result.output)
        self.assertIn("DAMAGED", result.output)

    def test_json(self) -> None:
        """The same for programs."""
        sound = json.loads(self.run_command("check", str(self.path), "--json").output)
        self.assertTrue(sound["sound"])
        self.assertEqual(
            (1, 20, 2, 0), tuple(sound[name] for name in ("first_index", "last_index", "last_term", "lost_term"))
        )
        self.assertEqual({"term": 2, "voted_for": "n2", "log_batch": 20}, sound["hard_state"])
        self.assertEqual([(1, 12), (13, 20)], [(each["first_index"], each["last_index"]) for each in sound["segments"]])
        self.spoil(self.first, 1000, 600)
        result = self.run_command("check", str(self.path), "--json")
        damaged = json.loads(result.output)
        self.assertEqual((1, False), (result.exit_code, damaged["sound"]))
        self.assertEqual(str(self.first.resolve()), damaged["damage"][0]["path"])
        self.assertEqual(damaged["missing"][0][0], 2)
        self.assertEqual(damaged["in_doubt_before"], damaged["missing"][0][1] + 1)

    def test_lost_end(self) -> None:
        """B41: a segment that was cut short is noticed where the hard state knows better."""
        self.second.write_bytes(self.second.read_bytes()[:2000])
        result = self.run_command("check", str(self.path))
        self.assertEqual(result.exit_code, 1)
        self.assertIn("its end is lost", result.output)

    def test_dump(self) -> None:
        """Each record is a line, and no value is shown."""
        result = self.run_command("dump", str(self.path), "--from", "3", "--to", "5")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual([line.split()[4] for line in result.output.splitlines()[1:]], ["3", "4", "5"])
        self.assertNotIn("secret", result.output)
        lines = self.run_command("dump", str(self.path), "--json").output.splitlines()
        self.assertEqual(list(range(1, 21)), [json.loads(line)["index"] for line in lines])

    def test_dump_of_a_damaged_log(self) -> None:
        """What can be read is printed, marked where it is damaged, and the status is 1."""
        self.spoil(self.first, 1000)
        result = self.run_command("dump", str(self.path), "--json")
        self.assertEqual(result.exit_code, 1)
        lines = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
        self.assertEqual([2], [line["index"] for line in lines if line["damaged"]])

    def test_refusals(self) -> None:
        """A directory in use, one that is none, and one of another version end in one line and status 2."""
        nothing = Path(self.mktemp())
        nothing.mkdir()
        result = CliRunner().invoke(main, ["wal", "check", str(nothing)])
        self.assertEqual(
            (result.exit_code, [], "is not the data directory" in result.output), (2, list(nothing.iterdir()), True)
        )
        disk = LocalDisk(self.path)
        disk.prepare()
        self.addCleanup(disk.release)
        result = CliRunner().invoke(main, ["wal", "check", str(self.path)])
        self.assertEqual(result.exit_code, 2)
        self.assertIn(f"in use by another process (pid {os.getpid()})", result.output)
