"""``raftkv snapshot``: what it saves, says, makes, and refuses."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from raftkv.cli.main import main
from raftkv.kvstore import Store
from raftkv.kvstore.commands import pack_batch, put
from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.meta import load_meta
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import Entry, EntryKind, SnapshotMeta
from raftkv.snapshot.archive import ArchiveFolder
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.snapshot.reading import SnapshotInfo

OLD = "ab" * 16
PEERS = {"n1": "h1:8082", "n2": "h2:8082"}


class SnapshotCommandTestCase(SynchronousTestCase):
    """A folder with a backup in it."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.file = self.folder / "backup"
        self.info = self.make_backup()

    def make_backup(self) -> SnapshotInfo:
        """Write a snapshot as a node does, and copy it."""
        disk = LocalDisk(self.folder / "node")
        disk.make_folder("snapshots")
        store = Store()
        for index in range(1, 4):
            store.apply(index, payload(index))
        configuration = Configuration(members={"old": Member(id="old")}, voters=frozenset({"old"}))
        meta = SnapshotMeta(index=3, term=2, configuration=configuration, configuration_index=1)

        def refuse(error: BaseException) -> None:
            raise error

        writer = SnapshotDirectory(disk, cluster_id=OLD, unreadable=refuse).create(meta, store.revision)
        for chunk in store.capture():
            writer.write(chunk)
        info = writer.commit()
        self.file.write_bytes((self.folder / "node" / "snapshots" / info.name).read_bytes())
        return info

    def run_command(self, *arguments: str) -> Result:
        """Run ``raftkv snapshot``."""
        return CliRunner().invoke(main, ["snapshot", *arguments])

    def config(self, name: str) -> str:
        """Write the configuration of a node of the new cluster; return its path."""
        path = self.folder / f"{name}.yaml"
        peers = ", ".join(f"{peer}: '{address}'" for peer, address in PEERS.items())
        path.write_text(
            f"raft: {{nodeID: {name}, dataDir: {self.folder}/data/{name}, peers: {{{peers}}}, "
            f"advertisedAddr: '{PEERS[name]}'}}\n"
        )
        return str(path)

    def assert_refused(self, done: Result, *parts: str) -> None:
        """Check that a command has failed with one line that has these parts."""
        self.assertEqual(done.exit_code, 1, done.output)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for part in parts:
            self.assertIn(part, done.stderr)


def payload(index: int) -> bytes:
    """Return what entry ``index`` holds, made at second ``index`` of 2026-11-23."""
    return pack_batch(index * 1000, 1_795_392_000_000 + index * 1000, [put(b"k%d" % index, b"v")])


class StatusTests(SnapshotCommandTestCase):
    """What a backup is."""

    def test_text(self) -> None:
        """It is told in words, once every byte has been checked."""
        done = self.run_command("status", str(self.file))
        self.assertEqual(done.exit_code, 0, done.output)
        for part in (OLD, "revision         3", "keys             3", self.info.digest, "everything checks out"):
            self.assertIn(part, done.output)

    def test_json(self) -> None:
        """For programs it is one object."""
        value = json.loads(self.run_command("status", str(self.file), "--json").output)
        expected = {"cluster_id": OLD, "index": 3, "term": 2, "revision": 3, "voters": ["old"]}
        self.assertEqual({name: value[name] for name in expected}, expected)
        self.assertEqual((value["checksum"], value["bytes"]), (self.info.digest, self.info.size_bytes))

    def test_damaged(self) -> None:
        """A flipped bit anywhere, a cut, and what is no backup at all are told with the file and the offset."""
        image = self.file.read_bytes()
        for offset in range(0, len(image), 7):
            self.file.write_bytes(image[:offset] + bytes((image[offset] ^ 4,)) + image[offset + 1 :])
            self.assert_refused(self.run_command("status", str(self.file)), str(self.file), "at offset")
        self.file.write_bytes(image[:-1])
        self.assert_refused(self.run_command("status", str(self.file)), "the end of the snapshot is missing")
        self.file.write_bytes(b"something else, and long enough for a head")
        self.assert_refused(self.run_command("status", str(self.file)), "this is not a snapshot file")
        self.assert_refused(self.run_command("status", str(self.folder / "none")), "No such file")


class RestoreTests(SnapshotCommandTestCase):
    """Directories for a new cluster."""

    def test_each_node(self) -> None:
        """The command makes each node's directory; all name the same new cluster, and a later revision."""
        told = []
        for name in PEERS:
            done = self.run_command("restore", str(self.file), "--config", self.config(name), "--json")
            self.assertEqual(done.exit_code, 0, done.output)
            told.append(json.loads(done.output))
            meta = load_meta(LocalDisk(self.folder / "data" / name))
            assert meta is not None
            self.assertEqual((meta.node_id, meta.former_cluster_id), (name, OLD))
            self.assertEqual(meta.cluster_id, told[-1]["cluster_id"])
        self.assertEqual(len({each["cluster_id"] for each in told}), 1)
        self.assertEqual((told[0]["restored_revision"], told[0]["revision"]), (3, 1_000_000_003))
        self.assertEqual((told[0]["members"], told[0]["keys"]), (["n1", "n2"], 3))

    def test_in_words(self) -> None:
        """What was made is told, and what is to be done next."""
        done = self.run_command("restore", str(self.file), "--config", self.config("n1"), "--bump-revision", "50")
        for part in ("n1", "3 keys as of revision 3", "revision 53", "start them"):
            self.assertIn(part, done.output)

    def archive(self) -> str:
        """Archive two entries behind the backup; return the directory."""
        (self.folder / "archive").mkdir()
        writer = ArchiveFolder(LocalDisk(self.folder / "archive"), cluster_id=OLD, node_id="old").begin(
            first_index=4, previous_term=2
        )
        writer.write([Entry(index=i, term=2, kind=EntryKind.COMMANDS, payload=payload(i)) for i in (4, 5)])
        writer.commit()
        return str(self.folder / "archive")

    def test_point_in_time(self) -> None:
        """Archived entries are replayed up to a revision, a time, or their end."""
        archive = self.archive()
        for options, revision, last in (
            (("--to-revision", "4"), 4, "2026-11-23T00:00:04.000Z"),
            (("--to-time", "2026-11-23T01:00:04.999+01:00"), 4, "2026-11-23T00:00:04.000Z"),
            ((), 5, "2026-11-23T00:00:05.000Z"),
        ):
            config = self.config("n1")
            done = self.run_command(
                "restore", str(self.file), "--config", config, "--archive", archive, *options, "--json"
            )
            value = json.loads(done.output)
            self.assertEqual((value["restored_revision"], value["last_replayed"]), (revision, last))
            (self.folder / "data").rename(self.folder / f"data of {options}")
        done = self.run_command("restore", str(self.file), "--config", self.config("n1"), "--archive", archive)
        self.assertIn("2 entries replayed, the last of 2026-11-23T00:00:05.000Z", done.output)

    def test_refused(self) -> None:
        """What cannot be restored, or not there, is refused in one line, and leaves no directory that could start."""
        config, file = self.config("n1"), str(self.file)
        archive = self.archive()
        self.assert_refused(
            self.run_command("restore", file, "--config", config, "--archive", archive, "--to-revision", "6"),
            "revision 6 is not in the archive",
        )
        self.assert_refused(self.run_command("restore", "--config", config, "--archive", archive), "name one")
        self.assert_refused(self.run_command("restore", file, "--config", str(self.folder / "none")), "none")
        self.file.write_bytes(self.file.read_bytes()[:-10])
        self.assert_refused(self.run_command("restore", file, "--config", config), "at offset")
        self.assertIsNone(load_meta(LocalDisk(self.folder / "data" / "n1")))
        self.make_backup()
        self.assertEqual(self.run_command("restore", file, "--config", config).exit_code, 0)
        self.assert_refused(self.run_command("restore", file, "--config", config), "is not empty")

    def test_options_that_contradict(self) -> None:
        """Options that make no sense together are refused as such."""
        config, file = self.config("n1"), str(self.file)
        for options in (
            (file, "--to-revision", "4"),
            (file, "--to-time", "2026-11-23T00:00:00Z"),
            (),
            (file, "--archive", str(self.folder), "--to-revision", "4", "--to-time", "2026-11-23T00:00:00Z"),
            (file, "--archive", str(self.folder), "--to-time", "yesterday"),
            (file, "--archive", str(self.folder), "--to-time", "2026-11-23T00:00:00"),
            (file, "--bump-revision", "0"),
        ):
            self.assertEqual(self.run_command("restore", "--config", config, *options).exit_code, 2, options)


class SaveTests(SnapshotCommandTestCase):
    """A backup fetched from a node that behaves in various ways."""

    def setUp(self) -> None:
        super().setUp()
        self.image = self.file.read_bytes()
        self.file.unlink()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        _Handler.asked = []
        _Handler.script = []

    def answer(
        self, status: int = 200, body: bytes | None = None, *, length: int | None = None, **headers: str
    ) -> None:
        """Say what the node answers next."""
        body = self.image if body is None else body
        said = {
            "Content-Length": str(len(body) if length is None else length),
            "ETag": '"x"',
            "X-Raft-Snapshot-Bytes": str(self.info.size_bytes),
            "X-Raft-Snapshot-Checksum": self.info.digest,
            "X-Raft-Snapshot-Index": "3",
            "X-Raft-Snapshot-Term": "2",
            "X-Raft-Snapshot-Revision": "3",
        }
        said.update({name.replace("_", "-"): value for name, value in headers.items()})
        _Handler.script.append((status, said, body))

    def save(self, *more: str) -> Result:
        """Save from this node."""
        return self.run_command("save", str(self.file), "--address", self.url, *more)

    def assert_nothing_left(self) -> None:
        """Check that there is neither a file nor the beginning of one."""
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["node"])

    def test_saved(self) -> None:
        """What arrives whole is there under its name, and told."""
        self.answer()
        done = self.save()
        self.assertEqual(done.exit_code, 0, done.output)
        self.assertEqual(self.file.read_bytes(), self.image)
        self.assertIn(
            f"revision 3, entry 3 of term 2, {len(self.image)} bytes, checksum {self.info.digest}", done.output
        )
        self.assertEqual(_Handler.asked[0][0], "/v1/snapshots/latest?fresh=true&consistency=linearizable")
        self.answer()
        self.assertEqual(json.loads(self.save("--json", "--consistency", "stale").output)["revision"], 3)
        self.assertEqual(_Handler.asked[1][0], "/v1/snapshots/latest?fresh=true&consistency=stale")

    def test_resumed(self) -> None:
        """A transfer that breaks goes on where it was, if the node still has that file."""
        self.answer(body=self.image[:100], length=len(self.image))
        self.answer(206, self.image[100:200], length=len(self.image) - 100)
        self.answer(206, self.image[200:])
        self.assertEqual(self.save().exit_code, 0)
        self.assertEqual(self.file.read_bytes(), self.image)
        again = _Handler.asked[1:]
        self.assertEqual(
            [(path, h["range"], h["if-range"]) for path, h in again],
            [
                ("/v1/snapshots/latest", "bytes=100-", '"x"'),
                ("/v1/snapshots/latest", "bytes=200-", '"x"'),
            ],
        )

    def test_begun_anew(self) -> None:
        """A node that has another file by then sends that from its beginning."""
        self.answer(body=b"x" * 100, length=len(self.image), ETag='"y"')
        self.answer()
        self.assertEqual(self.save().exit_code, 0)
        self.assertEqual(self.file.read_bytes(), self.image)

    def test_changed_on_the_way(self) -> None:
        """A byte that changed on the way is noticed, and nothing is left."""
        self.answer(body=self.image[:150] + b"\0\1" + self.image[152:])
        self.assert_refused(self.save(), "the checksums differ")
        self.assert_nothing_left()
        self.answer(X_Raft_Snapshot_Checksum="00" * 16)
        self.assert_refused(self.save(), "the checksums differ")

    def test_refused(self) -> None:
        """What the node says is told; nothing is left, and a file of that name stays what it was."""
        self.file.write_bytes(b"an older backup")
        self.answer(503, b'{"error":{"code":"no_leader","message":"nobody leads","outcome":"not_applied"}}\n')
        self.assert_refused(self.save(), "nobody leads (no_leader)")
        self.answer(404, b"gone")
        self.assert_refused(self.save(), "HTTP status 404")
        self.answer(200, b"hello", X_Raft_Snapshot_Bytes="many")
        self.assert_refused(self.save(), "not that of a node")
        self.assertEqual(self.file.read_bytes(), b"an older backup")
        self.file.unlink()
        self.assert_nothing_left()

    def test_next_node(self) -> None:
        """A node that cannot be reached, or refuses, is followed by the next one."""
        self.answer()
        done = self.run_command("save", str(self.file), "-a", "http://127.0.0.1:9", "-a", self.url)
        self.assertEqual(done.exit_code, 0, done.output)
        self.assert_refused(self.run_command("save", str(self.file), "-a", "http://127.0.0.1:9"), "127.0.0.1:9")
        self.assert_refused(self.run_command("save", str(self.file), "-a", "ftp://h"), "not the URL of a node")

    def test_keeps_breaking(self) -> None:
        """A transfer that breaks again and again is given up."""
        for _ in range(5):
            self.answer(body=self.image[:50], length=len(self.image))
        self.assert_refused(self.save(), "broke after 50 bytes")
        self.assert_nothing_left()

    def test_no_such_folder(self) -> None:
        """A file that cannot be made is told before anything is fetched."""
        self.assert_refused(self.run_command("save", str(self.folder / "none" / "f"), "-a", self.url), "No such file")
        self.assertEqual(_Handler.asked, [])


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers as a test says."""

    asked: ClassVar[list[tuple[str, dict[str, str]]]] = []
    script: ClassVar[list[tuple[int, Mapping[str, str], bytes]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        status, headers, body = self.script.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""
