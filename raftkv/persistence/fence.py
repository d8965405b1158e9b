"""The small file ``fenced`` beside ``meta``: the state of this node was found to differ from the majority's.

It outlives a crash, for a snapshot that was taken of the wrong state does too. Blocks.
"""

from __future__ import annotations

from raftkv.interfaces import IDisk
from raftkv.persistence.noting import read_note, remove_note, write_note

FENCED_FILE = "fenced"


def store_fence(disk: IDisk, index: int) -> None:
    """Write down that the state differed at an index.

    :raises raftkv.errors.StorageError: it cannot be written.
    """
    write_note(disk, FENCED_FILE, {"index": index})


def load_fence(disk: IDisk) -> int:
    """Return the index at which the state last differed, 0 where it is as good as the majority's.

    :raises raftkv.errors.CorruptData: the file is damaged.
    """
    value = read_note(disk, FENCED_FILE)
    return 0 if value is None else int(value["index"])


def remove_fence(disk: IDisk) -> None:
    """Forget it: the state agrees again.

    :raises raftkv.errors.StorageError: the file cannot be removed.
    """
    remove_note(disk, FENCED_FILE)
