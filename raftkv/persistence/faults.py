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
            raise storage_error(self._operation, self._path, error) from error


def storage_error(operation: str, path: str, error: OSError) -> StorageError:
    """Return what :class:`storage_errors` raises, for where even a ``with`` block is too much."""
    cls = NoRoom if error.errno in _NO_ROOM else StorageError
    return cls(operation, path, error.strerror or str(error))
