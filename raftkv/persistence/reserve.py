"""Room kept in reserve: a file that holds nothing, and gives its room back when the disk is full (B50).

A disk that is full to the last byte leaves no way out: no segment of the log, no snapshot by which the log could be
cut. So some room is taken in advance. The log draws on it when it needs a segment and there is no room for one; from
then on the node lives on what is left of it, until the whole of it can be set aside again.

Everything here blocks, and may be called by any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from raftkv.errors import NoRoom
from raftkv.interfaces import IDisk
from raftkv.persistence.faults import NoRoomForFile, storage_errors

RESERVE_FILE: Final = "reserve"

T = TypeVar("T")


class Reserve:
    """What one node keeps in reserve.

    :param disk: the data directory.
    :param size_bytes: how much; 0 for nothing, and then nothing is ever missing.
    """

    def __init__(self, disk: IDisk, *, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._disk = disk
        self._path = f"{disk.root}/{RESERVE_FILE}"
        self._lock = threading.Lock()
        self._is_whole = not size_bytes

    @property
    def is_whole(self) -> bool:
        """Whether all of it is set aside."""
        return self._is_whole

    def fill(self, *, spare_bytes: int = 0) -> bool:
        """Set everything aside that is to be; return whether all of it is.

        Nothing of it is taken where not all of it would fit: what is left of the disk is then needed more elsewhere.

        :param spare_bytes: what must be left beside it.
        :raises raftkv.errors.StorageError: the disk fails for another reason than want of room.
        """
        with self._lock:
            if self._is_whole and self.size_bytes:
                return True
            present = self._present_bytes()
            if present == self.size_bytes:
                self._is_whole = True
            elif self._disk.free_bytes() + present >= self.size_bytes + spare_bytes:
                self._is_whole = self._take(present)
            return self._is_whole

    def release(self) -> bool:
        """Give everything back that is set aside; return whether there was anything."""
        with self._lock:
            self._is_whole = not self.size_bytes
            return self._remove()

    def make_room_for(self, write: Callable[[], T]) -> T:
        """Write a short file as a whole, if need be with what is kept in reserve.

        :param write: leaves nothing where it finds no room, as :func:`~raftkv.persistence.files.write_whole` does.
        """
        try:
            return write()
        except NoRoomForFile:
            if not self.release():
                raise
        return write()

    def _present_bytes(self) -> int:
        if not self._disk.exists(RESERVE_FILE):
            return 0
        with storage_errors("read", self._path):
            file = self._disk.open(RESERVE_FILE)
            try:
                size: int = file.size()
            finally:
                file.close()
        return size

    def _take(self, present: int) -> bool:
        if present > self.size_bytes or not self.size_bytes:  # the setting was changed
            self._remove()
        if not self.size_bytes:
            return True
        try:
            with storage_errors("allocate", self._path):
                file = self._disk.open(RESERVE_FILE, create=True)
                try:
                    file.allocate(self.size_bytes)
                finally:
                    file.close()
        except NoRoom:
            # Others write too, and the file system needs some for itself.
            self._remove()
            return False
        return True

    def _remove(self) -> bool:
        if not self._disk.exists(RESERVE_FILE):
            return False
        with storage_errors("remove", self._path):
            self._disk.remove(RESERVE_FILE)
        return True
