"""The contract of a disk, held to by the real one and by the one in memory; and what only one of them does."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from raftkv.errors import ConfigurationError
from raftkv.interfaces import IDisk, IFile
from raftkv.persistence import disk as disk_module
from raftkv.persistence.disk import DirectoryLocked, LocalDisk
from raftkv.testing.disk import MemoryDisk, PowerLoss


class DiskContract:
    """What every disk does."""

    disk: Any

    def test_interfaces(self: Any) -> None:
        """A disk and its files provide the interfaces."""
        verifyObject(IDisk, self.disk)
        file = self.disk.open("f", create=True)
        verifyObject(IFile, file)
        file.close()

    def test_write_and_read(self: Any) -> None:
        """What is written at an offset is read there; a hole reads as zeros; reading stops at the end of the file."""
        file = self.disk.open("f", create=True)
        self.addCleanup(file.close)
        file.write_at(600, b"abc")
        self.assertEqual(file.size(), 603)
        self.assertEqual(file.read_at(598, 100), b"\0\0abc")
        file.write_at(601, b"X")
        self.assertEqual(file.read_at(600, 2), b"aX")
        self.assertEqual(file.read_at(700, 5), b"")
        file.sync()

    def test_truncate_and_allocate(self: Any) -> None:
        """A file is cut, extended with zeros, and never shortened by allocating."""
        file = self.disk.open("f", create=True)
        self.addCleanup(file.close)
        file.write_at(0, b"abcdef")
        file.truncate(2)
        file.truncate(4)
        self.assertEqual(file.read_at(0, 10), b"ab\0\0")
        file.allocate(1000)
        self.assertEqual(file.read_at(0, 2000), b"ab" + bytes(998))
        file.allocate(10)
        self.assertEqual(file.size(), 1000)

    def test_missing_file(self: Any) -> None:
        """A file that is not there cannot be opened, renamed or removed."""
        for action in (
            lambda: self.disk.open("none"),
            lambda: self.disk.rename("none", "other"),
            lambda: self.disk.remove("none"),
            lambda: self.disk.open("nofolder/f", create=True),
        ):
            self.assertRaises(FileNotFoundError, action)

    def test_closed_file(self: Any) -> None:
        """A closed file can be closed again and nothing else."""
        file = self.disk.open("f", create=True)
        file.close()
        file.close()
        self.assertRaises(OSError, file.write_at, 0, b"x")
        self.assertRaises(OSError, file.sync)

    def test_folders(self: Any) -> None:
        """Folders are made with their parents and list their own names, sorted; a missing one lists nothing."""
        self.disk.make_folder("a/b")
        self.disk.make_folder("a/b")
        for name in ("a/z", "a/c", "a/b/deep"):
            self.disk.open(name, create=True).close()
        self.assertEqual(self.disk.names("a"), ["b", "c", "z"])
        self.assertEqual(self.disk.names("none"), [])
        self.assertTrue(self.disk.exists("a/b"))
        self.assertFalse(self.disk.exists("a/q"))
        self.disk.sync_folder("a")
        self.disk.sync_folder("")

    def test_rename_and_remove(self: Any) -> None:
        """A rename replaces its target; an open file outlives its name."""
        for name in ("old", "new"):
            file = self.disk.open(name, create=True)
            file.write_at(0, name.encode())
            file.close()
        self.disk.rename("old", "new")
        self.assertFalse(self.disk.exists("old"))
        file = self.disk.open("new")
        self.disk.remove("new")
        self.assertEqual(file.read_at(0, 9), b"old")
        file.close()
        self.assertFalse(self.disk.exists("new"))

    def test_free_bytes(self: Any) -> None:
        """There is room to begin with."""
        self.assertGreater(self.disk.free_bytes(), 0)


class MemoryDiskTests(DiskContract, SynchronousTestCase):
    """The disk in memory."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()

    def stored(self, name: str, data: bytes) -> Any:
        """Make a file that is on the medium, and return it open."""
        file = self.disk.open(name, create=True)
        file.write_at(0, data)
        file.sync()
        self.disk.sync_folder("")
        return file

    def test_crash_keeps_what_was_synced(self) -> None:
        """What was synced survives every crash, whatever came after it."""
        for seed in range(50):
            self.disk = MemoryDisk()
            file = self.stored("f", b"a" * 2000)
            file.write_at(1024, b"b" * 2000)
            self.disk.crash(random.Random(seed))
            data = self.disk.read("f")
            self.assertEqual(data[:1024], b"a" * 1024)
            self.assertRaises(OSError, file.read_at, 0, 1)

    def test_crash_keeps_any_subset_of_sectors(self) -> None:
        """Of an unsynced write all, none, or any mixture of whole sectors survives."""
        outcomes = set()
        for seed in range(200):
            self.disk = MemoryDisk()
            self.stored("f", b"a" * 1536).write_at(0, b"b" * 1536)
            self.disk.crash(random.Random(seed))
            data = self.disk.read("f")
            sectors = [data[offset : offset + 512] for offset in (0, 512, 1024)]
            self.assertTrue(all(sector in (b"a" * 512, b"b" * 512) for sector in sectors))
            outcomes.add(bytes(sector[0] for sector in sectors))
        self.assertEqual(len(outcomes), 8)

    def test_crash_may_forget_a_name(self) -> None:
        """A creation, rename or removal that no sync_folder covered is kept or forgotten (B44)."""
        outcomes = set()
        for seed in range(60):
            self.disk = MemoryDisk()
            self.stored("old", b"1").close()
            self.disk.rename("old", "new")
            self.disk.crash(random.Random(seed))
            outcomes.add(tuple(self.disk.names("")))
        self.assertEqual(outcomes, {("old",), ("new",)})

    def test_crash_is_deterministic(self) -> None:
        """Equal seeds give equal crashes."""
        contents = []
        for _repeat in range(2):
            self.disk = MemoryDisk()
            self.stored("f", b"a" * 9000).write_at(100, b"b" * 8000)
            self.disk.crash(random.Random(7))
            contents.append(self.disk.read("f"))
        self.assertEqual(contents[0], contents[1])

    def test_power_loss(self) -> None:
        """The power goes after the given number of operations."""
        file = self.stored("f", b"a")
        self.disk.lose_power_after(1)
        file.write_at(0, b"b")
        self.assertRaises(PowerLoss, file.sync)

    def test_full(self) -> None:
        """A full disk refuses what would make files longer, and nothing else."""
        file = self.stored("f", b"a" * 100)
        self.disk.capacity_bytes = 120
        self.assertEqual(self.disk.free_bytes(), 20)
        file.write_at(50, b"b" * 70)
        error = self.assertRaises(OSError, file.write_at, 119, b"cc")
        self.assertEqual(error.errno, errno.ENOSPC)
        self.assertRaises(OSError, file.allocate, 121)

    def test_failing_sync(self) -> None:
        """A sync fails once where it was told to."""
        file = self.stored("f", b"a")
        self.disk.fail_next("sync", "f")
        self.assertEqual(self.assertRaises(OSError, file.sync).errno, errno.EIO)
        file.sync()

    def test_flipped_bit(self) -> None:
        """A flipped bit is read and survives a crash."""
        self.stored("f", b"\0\0")
        self.disk.flip_bit("f", 1, 3)
        self.disk.crash(random.Random(1))
        self.assertEqual(self.disk.read("f"), b"\0\x08")


class LocalDiskTests(DiskContract, SynchronousTestCase):
    """The disk of production."""

    def setUp(self) -> None:
        self.disk = LocalDisk(os.path.join(self.mktemp(), "data"))
        self.disk.prepare()
        self.addCleanup(self.disk.release)

    def test_lock(self) -> None:
        """A directory in use is refused with its path and the pid of the holder, and free once released."""
        other = LocalDisk(self.disk.root)
        error = self.assertRaises(DirectoryLocked, other.prepare)
        self.assertIsInstance(error, ConfigurationError)
        self.assertIn(self.disk.root, str(error))
        self.assertIn(f"pid {os.getpid()}", str(error))
        self.disk.release()
        other.prepare()
        other.release()

    def test_new_directories_are_synced(self) -> None:
        """Each directory is named by a parent that was synced behind that, also where an earlier start was killed
        between the two."""
        top = os.path.abspath(self.mktemp())
        os.makedirs(os.path.join(top, "made"))
        synced: list[str] = []
        self.patch(disk_module, "_sync_directory", synced.append)
        disk = LocalDisk(os.path.join(top, "made", "new", "data"))
        self.addCleanup(disk.release)
        disk.prepare()
        self.assertEqual(synced, [top, os.path.join(top, "made"), os.path.join(top, "made", "new")])
        synced.clear()
        again = LocalDisk(disk.root)
        self.assertRaises(DirectoryLocked, again.prepare)
        self.assertEqual(synced, [os.path.join(top, "made", "new")])

    def test_parent_that_cannot_be_read(self) -> None:
        """A directory that somebody else made where this process may not look is used as it is."""

        def refuse(path: str) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", path)

        self.patch(disk_module, "_sync_directory", refuse)
        root = self.mktemp()
        os.makedirs(root)
        disk = LocalDisk(root)
        disk.prepare()
        disk.release()

    def test_lock_survives_a_fork(self) -> None:
        """The lock stays with a daemon when the process that took it has exited."""
        root = os.path.join(self.mktemp(), "data")
        script = (
            "import os, sys\n"
            "from raftkv.persistence.disk import LocalDisk\n"
            "disk = LocalDisk(sys.argv[1])\n"
            "disk.prepare()\n"
            "if os.fork(): os._exit(0)\n"
            "disk.note_holder()\n"
            "print(os.getpid(), flush=True)\n"
            "sys.stdin.read()\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(
            [sys.executable, "-c", script, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        ) as process:
            assert process.stdout is not None
            child = int(process.stdout.readline())
            process.wait()
            error = self.assertRaises(DirectoryLocked, LocalDisk(root).prepare)
            self.assertEqual(error.holder, child)

    def test_unusable_directory(self) -> None:
        """A path that cannot be a directory is one sentence that names it."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("x")
        error = self.assertRaises(ConfigurationError, LocalDisk(path).prepare)
        self.assertIn(path, str(error))

    def test_allocate_where_the_file_system_cannot(self) -> None:
        """Without fallocate the room is reserved with real zeros."""

        def refuse(_descriptor: int, _offset: int, _length: int) -> None:
            raise OSError(errno.EOPNOTSUPP, "not supported")

        self.patch(os, "posix_fallocate", refuse)
        file = self.disk.open("f", create=True)
        self.addCleanup(file.close)
        file.write_at(0, b"abc")
        file.allocate(3 << 20)
        self.assertEqual(file.size(), 3 << 20)
        self.assertEqual(file.read_at(0, 4), b"abc\0")

    def test_short_writes(self) -> None:
        """A write that the system cuts short is continued."""
        pwrite = os.pwrite
        self.patch(os, "pwrite", lambda descriptor, data, offset: pwrite(descriptor, bytes(data[:7]), offset))
        file = self.disk.open("f", create=True)
        self.addCleanup(file.close)
        file.write_at(3, b"0123456789" * 10)
        self.assertEqual(file.read_at(3, 200), b"0123456789" * 10)
