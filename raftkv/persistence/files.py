"""Small files as a whole: they appear by write, sync, rename, sync of the folder, so that a crash never halves one."""

from __future__ import annotations

import os

from raftkv.errors import NoRoom
from raftkv.interfaces import IDisk
from raftkv.persistence.faults import NoRoomForFile, storage_errors

TEMPORARY_SUFFIX = ".tmp"  #: such files are leftovers of a crash wherever they are met at start


def read_whole(disk: IDisk, name: str) -> bytes:
    """Return the content of a file.

    :raises raftkv.errors.StorageError: it cannot be read.
    """
    with storage_errors("read", f"{disk.root}/{name}"):
        file = disk.open(name)
        try:
            data: bytes = file.read_at(0, file.size())
        finally:
            file.close()
    return data


def write_whole(disk: IDisk, name: str, data: bytes) -> None:
    """Make a file appear, or replace it, with this content.

    :raises raftkv.persistence.faults.NoRoomForFile: there is no room for it.
    :raises raftkv.errors.StorageError: it cannot be written.
    """
    temporary = name + TEMPORARY_SUFFIX
    path = f"{disk.root}/{name}"
    with storage_errors("write", path):
        file = disk.open(temporary, create=True)
    try:
        try:
            with storage_errors("write", path):
                file.truncate(0)
                file.write_at(0, data)
        except NoRoom as error:
            disk.remove(temporary)
            raise NoRoomForFile(error.operation, error.path, error.reason) from error
        with storage_errors("write", path):
            file.sync()
    finally:
        file.close()
    with storage_errors("write", path):
        disk.rename(temporary, name)
        disk.sync_folder(os.path.dirname(name))


def remove_temporary_files(disk: IDisk, folder: str) -> list[str]:
    """Remove what a crash left behind in a folder in the middle of being written; return the names.

    What has a name is on the medium under it from then on: a process that was killed, or whose sync failed, may have
    left a new name in memory only, and what is built on it would go with it.
    """
    leftovers = [name for name in disk.names(folder) if name.endswith(TEMPORARY_SUFFIX)]
    with storage_errors("remove", f"{disk.root}/{folder}"):
        for name in leftovers:
            disk.remove(f"{folder}/{name}" if folder else name)
        disk.sync_folder(folder)
    return leftovers
