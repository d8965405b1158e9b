"""A data directory on a real file system: the :class:`~raftkv.interfaces.IDisk` of production.

It knows system calls and their gaps: short writes, file systems without ``fallocate``, folders that have to be synced.
It leaves formats, retries (there are none) and the meaning of a failed sync to those who call it. Everything here
blocks, so only worker threads and the start of the process may call it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from zope.interface import implementer

from raftkv.errors import ConfigurationError
from raftkv.interfaces import IDisk, IFile

LOCK_FILE = "lock"

_ZEROS = bytes(1024 * 1024)
_NO_FALLOCATE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
# macOS has no fdatasync; fsync promises more.
_fdatasync = getattr(os, "fdatasync", os.fsync)


class DirectoryLocked(ConfigurationError):
    """Another process uses the data directory.

    :ivar path: the directory.
    :ivar holder: process id of the other one, or ``None`` where it is not known.
    """

    def __init__(self, path: str, holder: int | None) -> None:
        super().__init__(path, holder)
        self.path = path
        self.holder = holder

    def __str__(self) -> str:
        who = "another process" if self.holder is None else f"another process (pid {self.holder})"
        return f"data directory {self.path} is in use by {who}; each node needs a directory of its own"


@implementer(IFile)
class LocalFile:
    """An open file, addressed by offset, so that no position is shared.

    :param path: for messages.
    :param descriptor: an open file descriptor, owned by this object from now on.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    def write_at(self, offset: int, data: bytes) -> None:
        """See :meth:`raftkv.interfaces.IFile.write_at`."""
        descriptor = self._open_descriptor()
        written = os.pwrite(descriptor, data, offset)
        if written == len(data):
            return
        rest = memoryview(data)[written:]
        while rest:  # a signal, a quota or a full disk may cut a write short; the next one says which
            offset += written
            written = os.pwrite(descriptor, rest, offset)
            rest = rest[written:]

    def read_at(self, offset: int, length: int) -> bytes:
        """See :meth:`raftkv.interfaces.IFile.read_at`."""
        descriptor = self._open_descriptor()
        pieces = []
        while length > 0:  # Linux gives at most 2 GiB at once
            piece = os.pread(descriptor, length, offset)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def size(self) -> int:
        """See :meth:`raftkv.interfaces.IFile.size`."""
        return os.fstat(self._open_descriptor()).st_size

    def truncate(self, length: int) -> None:
        """See :meth:`raftkv.interfaces.IFile.truncate`."""
        os.ftruncate(self._open_descriptor(), length)

    def allocate(self, length: int) -> None:
        """See :meth:`raftkv.interfaces.IFile.allocate`."""
        descriptor = self._open_descriptor()
        size = self.size()
        if length <= size:
            return
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(descriptor, 0, length)
            except OSError as error:
                if error.errno not in _NO_FALLOCATE:
                    raise
            else:
                return
        for offset in range(size, length, len(_ZEROS)):  # a hole would reserve nothing
            self.write_at(offset, _ZEROS[: length - offset])

    def sync(self) -> None:
        """See :meth:`raftkv.interfaces.IFile.sync`."""
        _fdatasync(self._open_descriptor())

    def close(self) -> None:
        """See :meth:`raftkv.interfaces.IFile.close`."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise OSError(errno.EBADF, "the file is closed", self._path)
        return self._descriptor


@implementer(IDisk)
class LocalDisk:
    """One directory of the file system.

    :param root: the directory; :meth:`prepare` makes it.
    :param read_only: whether files are opened for reading only, so that they may belong to somebody else.
    :ivar root: the same as text, for messages.
    """

    def __init__(self, root: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.root = os.path.abspath(root)
        self._lock_descriptor: int | None = None
        self._open_flags = os.O_RDONLY if read_only else os.O_RDWR

    def prepare(self) -> None:
        """Make the directory where it is missing, and take the lock that keeps a second process out.

        The lock is ``flock``'s: it belongs to the open file, so that it survives the fork of a process that becomes a
        daemon (a lock of ``fcntl`` would not) and ends with the last process that has it open, however that ends.

        :raises DirectoryLocked: another process has it.
        :raises raftkv.errors.ConfigurationError: it cannot be made or written.
        """
        if self._lock_descriptor is not None:
            return
        try:
            self._make_root()
            descriptor = os.open(self._path(LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"data directory {self.root} cannot be used: {error.strerror or error}; "
                "expected a directory that this process may create and write"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _read_holder(descriptor)
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise DirectoryLocked(self.root, holder) from None
            raise ConfigurationError(f"data directory {self.root} cannot be locked: {error.strerror}") from error
        self._lock_descriptor = descriptor
        self.note_holder()

    def prepare_to_look(self) -> None:
        """Let nobody use an existing directory while it is looked at, and open its files for reading only.

        :raises DirectoryLocked: another process uses it.
        :raises raftkv.errors.ConfigurationError: it is none, or cannot be read.
        """
        try:
            descriptor = os.open(self._path(LOCK_FILE), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigurationError(
                f"{self.root} is not the data directory of a node: {LOCK_FILE}: {error.strerror or error}"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            holder = _read_holder(descriptor)
            os.close(descriptor)
            raise DirectoryLocked(self.root, holder) from None
        self._lock_descriptor = descriptor
        self._open_flags = os.O_RDONLY

    def note_holder(self) -> None:
        """Write this process's id into the lock file, for the message that another one gets.

        Called again after the fork of a daemon. It is a courtesy: no part of the lock depends on it.
        """
        if self._lock_descriptor is not None:
            os.ftruncate(self._lock_descriptor, 0)
            os.pwrite(self._lock_descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let another process have the directory; calling it twice is allowed."""
        descriptor, self._lock_descriptor = self._lock_descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def open(self, name: str, create: bool = False) -> LocalFile:
        """See :meth:`raftkv.interfaces.IDisk.open`."""
        path = self._path(name)
        flags = self._open_flags | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return LocalFile(path, os.open(path, flags, 0o600))

    def exists(self, name: str) -> bool:
        """See :meth:`raftkv.interfaces.IDisk.exists`."""
        return os.path.exists(self._path(name))

    def names(self, folder: str) -> list[str]:
        """See :meth:`raftkv.interfaces.IDisk.names`."""
        try:
            return sorted(os.listdir(self._path(folder)))
        except FileNotFoundError:
            return []

    def make_folder(self, name: str) -> None:
        """See :meth:`raftkv.interfaces.IDisk.make_folder`."""
        os.makedirs(self._path(name), mode=0o700, exist_ok=True)

    def rename(self, old: str, new: str) -> None:
        """See :meth:`raftkv.interfaces.IDisk.rename`."""
        os.replace(self._path(old), self._path(new))

    def remove(self, name: str) -> None:
        """See :meth:`raftkv.interfaces.IDisk.remove`."""
        os.unlink(self._path(name))

    def sync_folder(self, name: str) -> None:
        """See :meth:`raftkv.interfaces.IDisk.sync_folder`."""
        _sync_directory(self._path(name))

    def free_bytes(self) -> int:
        """See :meth:`raftkv.interfaces.IDisk.free_bytes`."""
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize

    def _path(self, name: str) -> str:
        return os.path.join(self.root, name) if name else self.root

    def _make_root(self) -> None:
        missing = []
        path = Path(self.root)
        while not path.exists():
            missing.append(path)
            path = path.parent
        # Else a crash may forget a directory with all that is in it. The innermost that exists may be ours, too, of a
        # start that was killed before it came to this; but if its parent is not for us to read, somebody else made it.
        with contextlib.suppress(PermissionError):
            _sync_directory(str(path.parent))
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync_directory(str(folder.parent))


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_holder(descriptor: int) -> int | None:
    try:
        return int(os.pread(descriptor, 32, 0))
    except (OSError, ValueError):
        return None  # the other process has not written it yet
