"""Files on a medium that does not give back all of them: what can be read is, block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.interfaces import IDisk, IFile
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.log import LOG_FOLDER
from raftkv.persistence.segment import HEADER_BYTES

_BLOCK_BYTES: Final = 4096  # what a medium that cannot be read is tried in
_READ_ATTEMPTS: Final = 3
_UNREADABLE: Final = b"\xff"  # in place of what it does not give back; zeros could pass for a torn write


def read_head(disk: IDisk, name: str) -> bytes:
    """Return where the header of a segment is, nothing where it cannot be read.

    :raises raftkv.errors.StorageError: the file cannot be opened.
    """
    with storage_errors("open", f"{disk.root}/{LOG_FOLDER}/{name}"):
        file: IFile = disk.open(f"{LOG_FOLDER}/{name}")
    try:
        data: bytes = file.read_at(0, HEADER_BYTES)
    except OSError:
        return b""
    finally:
        file.close()
    return data


def read_all(disk: IDisk, file: str, lost: Callable[[int, int, str], None]) -> bytes:
    """Return a file, with something else in place of what the medium does not give back.

    :param lost: told of each such block: where it starts and stops, and why.
    :raises raftkv.errors.StorageError: the file cannot be opened.
    """
    with storage_errors("open", f"{disk.root}/{file}"):
        opened: IFile = disk.open(file)
        size = opened.size()
    try:
        try:
            data: bytes = opened.read_at(0, size)
        except OSError:
            data = b"".join(
                _block(opened, start, min(_BLOCK_BYTES, size - start), lost) for start in range(0, size, _BLOCK_BYTES)
            )
    finally:
        opened.close()
    return data


def _block(opened: IFile, start: int, length: int, lost: Callable[[int, int, str], None]) -> bytes:
    for attempt in range(_READ_ATTEMPTS):
        try:
            data: bytes = opened.read_at(start, length)
        except OSError as error:
            reason = error.strerror or str(error)
            if attempt + 1 < _READ_ATTEMPTS:
                continue  # to read again is harmless, unlike to sync again
        else:
            return data
        lost(start, start + length, f"the medium does not give this back: {reason}")
    return _UNREADABLE * length
