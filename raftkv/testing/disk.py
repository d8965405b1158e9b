"""A disk in memory that forgets on a crash what was not synced, fills up, fails and rots, as a seed says.

It passes the contract tests of :class:`~raftkv.persistence.disk.LocalDisk`. What it adds is for tests only. The unit
of loss is a sector of 512 bytes: of an unsynced write any subset of sectors survives. Of the folder operations
that no ``sync_folder`` has covered, any subset survives too, which is harsher than journaling file systems are.
A sync that fails has written any subset of its sectors too, but takes all of them for clean: they read as written
until memory runs short or the power goes, and no later sync writes them. What a failed ``sync_folder`` leaves stays
unsynced: there a journal gives up as a whole.
How slow the disk is lies with the worker that calls it: see :mod:`raftkv.testing.worker`.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final, NoReturn

from zope.interface import implementer

from raftkv.interfaces import IDisk, IFile

SECTOR_BYTES = 512

_LOSSES: Final = ("torn writes", "lost writes", "lost folder changes", "sectors passed over", "sectors evicted")
_ERROR_KINDS: Final = {errno.EIO: "errors of the disk", errno.ENOSPC: "writes without room"}


class PowerLoss(BaseException):
    """The machine lost its power in the middle of an operation; not an ``Exception``, for nothing may handle it."""


@dataclass(slots=True)
class _Content:
    """What a file holds, whatever its name.

    :ivar current: what readers see.
    :ivar durable: for each sector written since the last sync, what the medium holds there.
    :ivar passed_over: likewise for each sector that a failed sync gave up: the system takes it for clean, so no later
        sync writes it unless it is written to again (the behaviour of Linux that became known as "fsyncgate").
    :ivar durable_size: length of the file on the medium.
    """

    current: bytearray = field(default_factory=bytearray)
    durable: dict[int, bytes] = field(default_factory=dict)
    passed_over: dict[int, bytes] = field(default_factory=dict)
    durable_size: int = 0

    def touch(self, start: int, stop: int) -> None:
        """Remember what the medium holds in a range that is about to change."""
        for sector in range(start // SECTOR_BYTES, -(-stop // SECTOR_BYTES)):
            if sector in self.passed_over:
                self.durable[sector] = self.passed_over.pop(sector)
            elif sector not in self.durable:
                offset = sector * SECTOR_BYTES
                self.durable[sector] = bytes(self.current[offset : offset + SECTOR_BYTES])

    def resize(self, length: int) -> None:
        size = len(self.current)
        if length < size:
            self.touch(length, size)
            del self.current[length:]
        else:
            self.current.extend(bytes(length - size))

    def sync(self) -> None:
        self.durable.clear()
        self.durable_size = len(self.current)

    def fail_to_sync(self) -> int:
        """Take everything for clean although nothing says that the medium has it; return how many sectors that is."""
        passed_over = len(self.durable)
        self.passed_over.update(self.durable)
        self.durable.clear()
        return passed_over

    def evict(self, forget: Callable[[], bool]) -> int:
        """Read anew from the medium what memory holds of clean sectors, those for which ``forget()`` says so.

        :return: how many sectors no longer read as what was written last.
        """
        chosen = [sector for sector in sorted(self.passed_over) if forget()]
        for sector in chosen:
            self._fall_back(sector, self.passed_over.pop(sector), extend=False)
        return len(chosen)

    def crash(self, keep: Callable[[], bool]) -> tuple[int, int]:
        """Fall back to the medium, which got those unsynced sectors for which ``keep()`` says so.

        :return: how many unsynced sectors there were, and how many of them are lost.
        """
        size = len(self.current) if keep() else self.durable_size
        unsynced, lost = len(self.durable) + len(self.passed_over), 0
        for sector, before in sorted([*self.durable.items(), *self.passed_over.items()]):
            if not keep():
                lost += 1
                self._fall_back(sector, before, extend=True)
        del self.current[size:]
        self.current.extend(bytes(size - len(self.current)))
        self.passed_over.clear()
        self.sync()
        return unsynced, lost

    def _fall_back(self, sector: int, before: bytes, *, extend: bool) -> None:
        start = sector * SECTOR_BYTES
        stop = start + SECTOR_BYTES if extend else min(start + SECTOR_BYTES, len(self.current))
        if stop > start:
            self.current.extend(bytes(max(0, stop - len(self.current))))
            self.current[start:stop] = before.ljust(SECTOR_BYTES, b"\0")[: stop - start]


@dataclass(frozen=True, slots=True)
class _FolderChange:
    """One step that a folder takes at once: names that now stand for a content, or (``None``) for nothing more."""

    folder: str
    names: tuple[tuple[str, _Content | None], ...]


@implementer(IFile)
class MemoryFile:
    """An open file of a :class:`MemoryDisk`; a crash makes it unusable."""

    def __init__(self, disk: MemoryDisk, name: str, content: _Content) -> None:
        self._disk = disk
        self._name = name
        self._content = content
        self._life = disk.crashes
        self._closed = False

    def write_at(self, offset: int, data: bytes) -> None:
        """See :meth:`raftkv.interfaces.IFile.write_at`."""
        self._step("write", offset + len(data))
        content = self._content
        if offset > len(content.current):
            content.resize(offset)
        content.touch(offset, offset + len(data))
        content.current[offset : offset + len(data)] = data

    def read_at(self, offset: int, length: int) -> bytes:
        """See :meth:`raftkv.interfaces.IFile.read_at`."""
        self._step("read")
        return bytes(self._content.current[offset : offset + length])

    def size(self) -> int:
        """See :meth:`raftkv.interfaces.IFile.size`."""
        self._step("size")
        return len(self._content.current)

    def truncate(self, length: int) -> None:
        """See :meth:`raftkv.interfaces.IFile.truncate`."""
        self._step("truncate", length)
        self._content.resize(length)

    def allocate(self, length: int) -> None:
        """See :meth:`raftkv.interfaces.IFile.allocate`."""
        self._step("allocate", length)
        if length > len(self._content.current):
            self._content.resize(length)

    def sync(self) -> None:
        """See :meth:`raftkv.interfaces.IFile.sync`."""
        try:
            self._step("sync")
        except OSError:
            self._disk.counts["sectors passed over"] += self._content.fail_to_sync()
            raise
        self._content.sync()

    def close(self) -> None:
        """See :meth:`raftkv.interfaces.IFile.close`."""
        self._closed = True

    def _step(self, operation: str, length: int = 0) -> None:
        if self._closed or self._life != self._disk.crashes:
            raise OSError(errno.EBADF, "the file is closed", self._name)
        self._disk.step(operation, self._name, max(0, length - len(self._content.current)))


@implementer(IDisk)
class MemoryDisk:
    """A data directory in memory.

    :ivar root: a name for messages.
    :ivar capacity_bytes: what fits on it; a write beyond fails with ``ENOSPC``. ``None`` for no limit.
    :ivar crashes: how often it lost what was not synced.
    :ivar operations: how many operations that change something it has carried out, syncs included.
    :ivar syncs: how many syncs of files, by file name.
    :ivar on_error: called with the operation, the file name and the number of the error before an error is raised that
        was asked for: one of :meth:`fail_next`, or for want of room.
    :ivar counts: what befell it, by kind.
    """

    def __init__(self, root: str = "memory") -> None:
        self.root = root
        self.capacity_bytes: int | None = None
        self.crashes = 0
        self.operations = 0
        self.syncs: dict[str, int] = {}
        self.on_error: Callable[[str, str, int], None] | None = None
        self.counts = dict.fromkeys((*_LOSSES, *_ERROR_KINDS.values()), 0)
        self._files: dict[str, _Content] = {}
        self._folders: set[str] = {""}
        self._durable_files: dict[str, _Content] = {}
        self._changes: list[_FolderChange] = []
        self._power_left: int | None = None
        self._errors: list[tuple[str, str, int]] = []

    # -- IDisk ---------------------------------------------------------------------------------------------------

    def open(self, name: str, create: bool = False) -> MemoryFile:
        """See :meth:`raftkv.interfaces.IDisk.open`."""
        content = self._files.get(name)
        if content is None:
            if not create or os.path.dirname(name) not in self._folders:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            self.step("create", name)
            content = _Content()
            self._change(name, (name, content))
        return MemoryFile(self, name, content)

    def exists(self, name: str) -> bool:
        """See :meth:`raftkv.interfaces.IDisk.exists`."""
        return name in self._files or name in self._folders

    def names(self, folder: str) -> list[str]:
        """See :meth:`raftkv.interfaces.IDisk.names`."""
        everything = [*self._files, *(name for name in self._folders if name)]
        return sorted(os.path.basename(name) for name in everything if os.path.dirname(name) == folder)

    def make_folder(self, name: str) -> None:
        """See :meth:`raftkv.interfaces.IDisk.make_folder`.

        Folders themselves are never lost here: what is in one that was lost would be lost with it, and that is
        drawn for each file already.
        """
        self.step("make_folder", name)
        while name:
            self._folders.add(name)
            name = os.path.dirname(name)

    def rename(self, old: str, new: str) -> None:
        """See :meth:`raftkv.interfaces.IDisk.rename`."""
        self._existing(old)
        self.step("rename", old)
        self._change(new, (new, self._files[old]), (old, None))

    def remove(self, name: str) -> None:
        """See :meth:`raftkv.interfaces.IDisk.remove`."""
        self._existing(name)
        self.step("remove", name)
        self._change(name, (name, None))

    def sync_folder(self, name: str) -> None:
        """See :meth:`raftkv.interfaces.IDisk.sync_folder`."""
        if name not in self._folders:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        self.step("sync_folder", name)
        for change in self._changes:
            if change.folder == name:
                _carry_out(change, self._durable_files)
        self._changes = [change for change in self._changes if change.folder != name]

    def free_bytes(self) -> int:
        """See :meth:`raftkv.interfaces.IDisk.free_bytes`."""
        return 1 << 40 if self.capacity_bytes is None else max(0, self.capacity_bytes - self.used_bytes())

    # -- what can go wrong -----------------------------------------------------------------------------------------

    def used_bytes(self) -> int:
        """Return the bytes that all files take together."""
        return sum(len(content.current) for content in self._files.values())

    def crash(self, random: random.Random) -> None:
        """Lose the power: each unsynced sector and folder operation is kept or forgotten, as ``random`` draws.

        A draw at first decides the odds, so that "all of it" and "nothing" come as often as mixtures.
        """
        odds = random.choice((0.0, 1.0, 0.5, 0.9, 0.1))

        def keep() -> bool:
            return random.random() < odds

        for content in self._contents():
            unsynced, lost = content.crash(keep)
            self.counts["torn writes"] += 0 < lost < unsynced
            self.counts["lost writes"] += 0 < lost == unsynced
        for change in self._changes:
            if keep():
                _carry_out(change, self._durable_files)
            else:
                self.counts["lost folder changes"] += 1
        self._files = dict(self._durable_files)
        self._changes = []
        self._power_left = None
        self.crashes += 1

    def on_medium(self) -> dict[str, bytes]:
        """Return the files as a loss of power at this moment would leave them at worst: only what was synced."""
        files = {}
        for name, content in self._durable_files.items():
            twin = deepcopy(content)
            twin.crash(lambda: False)
            files[name] = bytes(twin.current)
        return files

    def evict(self, random: random.Random) -> None:
        """Forget what memory holds of sectors that a failed sync gave up, each or not, as ``random`` draws."""
        contents = [content for content in self._contents() if content.passed_over]
        if contents:  # else nothing is drawn
            odds = random.choice((0.0, 0.0, 1.0, 0.5, 0.1))
            for content in contents:
                self.counts["sectors evicted"] += content.evict(lambda: random.random() < odds)

    def _contents(self) -> list[_Content]:
        contents = {id(content): content for files in (self._files, self._durable_files) for content in files.values()}
        contents.update(
            {id(content): content for change in self._changes for _name, content in change.names if content is not None}
        )
        return list(contents.values())

    def lose_power_after(self, operations: int | None) -> None:
        """Raise :exc:`PowerLoss` in place of the operation that comes after so many more; ``None`` takes it back."""
        self._power_left = operations

    def fail_next(self, operation: str, name: str = "", *, code: int = errno.EIO) -> None:
        """Make the next ``operation`` (``"sync"``, ``"write"``, …) on a file whose name contains ``name`` fail."""
        self._errors.append((operation, name, code))

    def mend(self) -> None:
        """Fail no more, and have room for everything."""
        self._errors.clear()
        self.capacity_bytes = None

    def flip_bit(self, name: str, offset: int, bit: int = 0) -> None:
        """Let one bit of a file rot, on the medium and for readers."""
        self._existing(name).current[offset] ^= 1 << bit

    def read(self, name: str) -> bytes:
        """Return the whole content of a file."""
        return bytes(self._existing(name).current)

    def replace(self, name: str, data: bytes) -> None:
        """Put other bytes in place of a file's, as if they had been synced."""
        content = self._files.setdefault(name, _Content())
        content.current[:] = data
        content.passed_over.clear()
        content.sync()
        self._durable_files[name] = content

    def copy(self) -> MemoryDisk:
        """Return a disk with the same files, all of them synced, that shares nothing with this one."""
        twin = MemoryDisk(self.root)
        twin._folders = set(self._folders)
        for name, content in self._files.items():
            twin.replace(name, bytes(content.current))
        return twin

    def step(self, operation: str, name: str, growth: int = 0) -> None:
        """Account for one operation before it is carried out; the files call this too."""
        if operation in ("read", "size"):
            self._raise_injected(operation, name)
            return
        if self._power_left is not None:
            if self._power_left <= 0:
                raise PowerLoss(operation, name)
            self._power_left -= 1
        self._raise_injected(operation, name)
        if growth and self.capacity_bytes is not None and self.used_bytes() + growth > self.capacity_bytes:
            self._raise(errno.ENOSPC, operation, name)
        self.operations += 1
        if operation == "sync":
            self.syncs[name] = self.syncs.get(name, 0) + 1

    def _raise_injected(self, operation: str, name: str) -> None:
        for injected in self._errors:
            if injected[0] == operation and injected[1] in name:
                self._errors.remove(injected)
                self._raise(injected[2], operation, name)

    def _raise(self, code: int, operation: str, name: str) -> NoReturn:
        if kind := _ERROR_KINDS.get(code):
            self.counts[kind] += 1
        if self.on_error is not None:
            self.on_error(operation, name, code)
        raise OSError(code, os.strerror(code), name)

    def _existing(self, name: str) -> _Content:
        content = self._files.get(name)
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return content

    def _change(self, place: str, *names: tuple[str, _Content | None]) -> None:
        change = _FolderChange(os.path.dirname(place), names)
        self._changes.append(change)
        _carry_out(change, self._files)


def _carry_out(change: _FolderChange, files: dict[str, _Content]) -> None:
    for name, content in change.names:
        if content is None:
            files.pop(name, None)
        else:
            files[name] = content
