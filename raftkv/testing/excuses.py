"""Which nodes of a simulated cluster may give up, and for what: their disks were broken on purpose.

A node that meets an error of its disk, or a full one, has to stop; a supervisor then starts it again. A node whose log
rots has to repair it with the help of the others; one whose snapshots rot as well may refuse to start, and stays away
from then on. Everything else that stops a node is a failure of the product. What a node that goes on makes of a broken
disk is for the checkers to judge.
"""

from __future__ import annotations

import errno
from typing import Final

from raftkv.errors import CorruptData, DamagedLog, NoRoom, StorageError
from raftkv.persistence.reserve import RESERVE_FILE
from raftkv.testing.checkers import Violation

STOP_SECONDS = (
    1.5  #: within which a node must have stopped after an error of its disk; a slow batch takes half a second
)


_COUNTED: Final = (
    "nodes stopped by their disk",
    "rotten nodes out",
    "snapshots set aside",
    "damaged logs",
    "repaired logs",
    "rotten records met in service",
)


def can_be_borne(operation: str, file: str, code: int) -> bool:
    """Tell whether a node may go on after an error of its disk: nobody counts on the file, and it is given up (B43).

    That is so for snapshots before they have their name, and for new files that find no room.
    """
    is_snapshot = file.startswith("snapshots/") and file.endswith((".tmp", ".partial"))
    if is_snapshot and operation in ("create", "truncate", "write", "sync", "read"):
        return True
    takes_room = operation in ("allocate", "write") and (file == RESERVE_FILE or file.endswith(".tmp"))
    return code == errno.ENOSPC and takes_room


class Excuses:
    """What was done to the disks of one cluster, and what may come of it.

    :ivar bits_may_flip: whether any may at all; not where the members change, for nobody could say which of them the
        quorum can spare.
    :ivar counts: how often nodes gave up, by reason.
    :ivar rotten: nodes with a flipped bit somewhere on the disk.
    :ivar spoiled: nodes of which an entry has rotted that the others have; any number of them.
    :ivar out: those that have refused to go on because of it.
    :ivar fills_its_disk: nodes that nobody takes any room from as long as their disk has this size; they keep some in
        reserve, and must not run out of it.
    """

    def __init__(self, *, bits_may_flip: bool = True) -> None:
        self.counts = dict.fromkeys(_COUNTED, 0)
        self.bits_may_flip = bits_may_flip
        self.rotten: set[str] = set()
        self.out: set[str] = set()
        self.spoiled: set[str] = set()
        self.fills_its_disk: dict[str, int] = {}

    def may_rot(self, name: str, nodes: int) -> bool:
        """Tell whether bits may flip on a node: a quorum has to stay whole."""
        return self.bits_may_flip and name not in self.out and len(self.rotten | {name}) <= (nodes - 1) // 2

    def may_spoil(self, name: str) -> bool:
        """Tell whether an entry may rot on a node that all others have; on any number of nodes."""
        return self.bits_may_flip and name not in self.out

    def damaged(self, name: str, error: DamagedLog, *, disk_errors: int) -> None:
        """A node met a log that lacks something, and is to repair it.

        :param disk_errors: how many errors the disk raised in this life of the node.
        :raises Violation: nobody had touched it.
        """
        if name not in self.rotten and name not in self.spoiled and not disk_errors:
            raise Violation("unreadable log", f"{name}: {error}")
        self.counts["damaged logs"] += 1

    def repaired(self, name: str) -> None:
        """A node has written its log anew."""
        self.counts["repaired logs"] += 1

    def takes(self, name: str, error: BaseException, *, disk_errors: int) -> bool:
        """Tell whether a node may stop, or not start, because of an error; count it if so.

        :param disk_errors: how many errors the disk raised in this life of the node.
        """
        if isinstance(error, DamagedLog) and (name in self.spoiled or name in self.rotten):
            self.counts["rotten records met in service"] += 1
            return True
        if isinstance(error, CorruptData):
            if name not in self.rotten:
                return False
            self.out.add(name)
            self.counts["rotten nodes out"] += 1
            return True
        if not isinstance(error, StorageError) or not disk_errors:
            return False
        self.counts["nodes stopped by their disk"] += 1
        return True

    def must_have_had_room(self, name: str, error: BaseException, capacity_bytes: int | None) -> bool:
        """Tell whether a node gives up for want of room for its log, although nobody else has taken any.

        :param capacity_bytes: of its disk, at the moment.
        """
        takes_segment = isinstance(error, NoRoom) and error.operation == "allocate"
        return takes_segment and capacity_bytes is not None and self.fills_its_disk.get(name) == capacity_bytes

    def set_aside(self, name: str, error: CorruptData) -> None:
        """A node met a snapshot that does not check out, and goes on without it.

        :raises Violation: nobody had touched it.
        """
        if name not in self.rotten:
            raise Violation("unreadable snapshot", f"{name}: {error}")
        self.counts["snapshots set aside"] += 1
