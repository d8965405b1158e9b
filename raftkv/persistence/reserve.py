"""Room kept in reserve: a file that holds nothing, and gives its room back when the disk is full (B50).

A disk that is full to the last byte leaves no way out: no segment of the log, no snapshot by which the log could be
cut. So some room is taken in advance. The log draws on it when it needs a segment and there is no room for one; from
then on the node lives on what is left of it, until the whole of it can be set aside again.

Half of it is the log's, in whole segments: that much a node may promise to write, whatever else uses the disk. It stays
set aside until the log needs it, a segment at a time. The other half goes at once, to snapshots and short files.

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

_LOG_SHARE: Final = 2  # one part in so many is the log's
_SHORT_BYTES: Final = 16 * 1024  # more than any short file takes

T = TypeVar("T")


class Reserve:
    """What one node keeps in reserve.

    :param disk: the data directory.
    :param size_bytes: how much; 0 for nothing, and then nothing is ever missing.
    :param segment_bytes: in what portions the log draws on its part; 0 where it has none, and all goes at once.
    """

    def __init__(self, disk: IDisk, *, size_bytes: int, segment_bytes: int = 0) -> None:
        self.size_bytes = size_bytes
        self._segment_bytes = segment_bytes
        self._log_share_bytes = size_bytes // _LOG_SHARE // segment_bytes * segment_bytes if segment_bytes else 0
        self._disk = disk
        self._path = f"{disk.root}/{RESERVE_FILE}"
        self._lock = threading.Lock()
        self._is_whole = not size_bytes
        self._log_bytes = 0

    @property
    def is_whole(self) -> bool:
        """Whether all of it is set aside."""
        return self._is_whole

    @property
    def log_bytes(self) -> int:
        """How much of what is set aside is the log's."""
        return self._log_bytes

    def fill(self, *, spare_bytes: int = 0) -> bool:
        """Set everything aside that is to be; return whether all of it is.

        Where not all of it would fit, no more is taken than the log's part of it, and no more than leaves the others
        theirs: what is left of the disk is then needed more elsewhere.

        :param spare_bytes: what must be left beside it.
        :raises raftkv.errors.StorageError: the disk fails for another reason than want of room.
        """
        with self._lock:
            if self._is_whole and self.size_bytes:
                return True
            present, free = self._present_bytes(), self._disk.free_bytes()
            if present == self.size_bytes:
                self._is_whole = True
            elif free + present >= self.size_bytes + spare_bytes:
                self._is_whole = self._take(present, self.size_bytes)
                present = self._present_bytes()
            if not self._is_whole and self._segment_bytes:
                present = self._fill_for_the_log(present, free)
            self._log_bytes = min(present, self._log_share_bytes)
            return self._is_whole

    def release(self, log_bytes: int = 0) -> bool:
        """Give the others' part back, and of the log's what it asks for; return whether there was anything.

        :param log_bytes: what the log needs at once.
        """
        with self._lock:
            self._is_whole = not self.size_bytes
            present = self._present_bytes()
            kept = min(present, self._log_share_bytes) - log_bytes
            return self._shrink(present, max(0, kept))

    def make_room_for(self, write: Callable[[], T]) -> T:
        """Write a short file as a whole, if need be with what is kept in reserve.

        :param write: leaves nothing where it finds no room, as :func:`~raftkv.persistence.files.write_whole` does.
        """
        try:
            return write()
        except NoRoomForFile:
            if not self.release() and not self.release(_SHORT_BYTES):
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

    def _fill_for_the_log(self, present: int, free: int) -> int:
        """Set segments aside for the log, as many as leave the others their part; return what is there then."""
        segments = max(0, free - (self.size_bytes - self._log_share_bytes)) // self._segment_bytes
        wanted = min(self._log_share_bytes, present + segments * self._segment_bytes)
        if wanted > present:
            self._take(present, wanted)
            present = self._present_bytes()
        return present

    def _take(self, present: int, wanted: int) -> bool:
        if present > self.size_bytes or not self.size_bytes:  # the setting was changed
            self._shrink(present, 0)
            present = 0
        if not self.size_bytes:
            return True
        try:
            with storage_errors("allocate", self._path):
                file = self._disk.open(RESERVE_FILE, create=True)
                try:
                    file.allocate(wanted)
                finally:
                    file.close()
        except NoRoom:
            # Others write too, and the file system needs some for itself.
            self._shrink(self._present_bytes(), present)
            return False
        return True

    def _shrink(self, present: int, kept: int) -> bool:
        """Keep so much of what is set aside; return whether anything was given back."""
        self._log_bytes = min(present, kept, self._log_share_bytes)
        if not self._disk.exists(RESERVE_FILE) or 0 < present <= kept:
            return False
        if kept:
            with storage_errors("truncate", self._path):
                file = self._disk.open(RESERVE_FILE)
                try:
                    file.truncate(kept)
                finally:
                    file.close()
        else:
            with storage_errors("remove", self._path):
                self._disk.remove(RESERVE_FILE)
        return True
