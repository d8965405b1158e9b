"""Turning the operating system's errors into the one error that stops a node."""

from __future__ import annotations

import errno
from types import TracebackType
from typing import Final

from raftkv.errors import NoRoom, StorageError

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class NoRoomForFile(NoRoom):
    """There is no room for a new file. Nothing of it is left, and nothing else is in doubt."""


class storage_errors:
    """A ``with`` block in which an :exc:`OSError` becomes a :exc:`~raftkv.errors.StorageError`.

    A class rather than a generator with ``contextmanager``: it stands on the path of every sync.

    :param operation: what is being tried, such as ``"fdatasync"``.
    :param path: of what file or folder.
    """

    __slots__ = ("_operation", "_path")

    def __init__(self, operation: str, path: str) -> None:
        self._operation = operation
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            cls = NoRoom if error.errno in _NO_ROOM else StorageError
            raise cls(self._operation, self._path, error.strerror or str(error)) from error
