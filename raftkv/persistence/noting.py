"""Small files that people can read: one line of JSON, and one line with the checksum of the first. Blocks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import google_crc32c

from raftkv.errors import CorruptData
from raftkv.interfaces import IDisk
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.files import read_whole, write_whole


def write_note(disk: IDisk, name: str, value: Mapping[str, Any]) -> None:
    """Write a file so that a crash leaves it whole, or as it was (B44).

    :raises raftkv.errors.StorageError: it cannot be written.
    """
    line = json.dumps(value, sort_keys=True).encode()
    write_whole(disk, name, b"%b\ncrc32c:%08x\n" % (line, google_crc32c.value(line)))


def read_note(disk: IDisk, name: str) -> dict[str, Any] | None:
    """Read a file; ``None`` where there is none.

    :raises raftkv.errors.CorruptData: it is damaged.
    """
    if not disk.exists(name):
        return None
    line, newline, checksum = read_whole(disk, name).partition(b"\n")
    if not newline or checksum != b"crc32c:%08x\n" % google_crc32c.value(line):
        raise CorruptData(f"{disk.root}/{name}", 0, "the checksum does not match")
    value: dict[str, Any] = json.loads(line)  # the checksum held, so these are our own bytes
    return value


def remove_note(disk: IDisk, name: str) -> None:
    """Remove a file, for good once this returns; nothing happens where there is none.

    :raises raftkv.errors.StorageError: it cannot be removed.
    """
    with storage_errors("remove", f"{disk.root}/{name}"):
        if disk.exists(name):
            disk.remove(name)
            disk.sync_folder("")
