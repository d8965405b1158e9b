"""The server that PySyncObj, a library, does not bring along: one member, ``python pysyncobj_server.py SELF OTHERS…``.

Its settings are the library's own, which keep everything in memory and never sync.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated


class Store(SyncObj):  # type: ignore[misc]  # the library has no types
    """A replicated dictionary.

    :param me: ``host:port``; ``None`` for an observer.
    :param is_ticked_by_hand: the owner calls ``doTick``; else a thread of the library does.
    """

    def __init__(self, me: str | None, others: Sequence[str], *, is_ticked_by_hand: bool = False) -> None:
        super().__init__(me, list(others), SyncObjConf(autoTick=not is_ticked_by_hand))
        self._values: dict[bytes, bytes] = {}

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: bytes, value: bytes) -> None:
        """Set a key on every member."""
        self._values[key] = value

    def get(self, key: bytes) -> Any:
        """Return what this member has."""
        return self._values.get(key)


def main() -> None:
    """Run one member until it is killed."""
    store = Store(sys.argv[1], sys.argv[2:])
    while True:
        time.sleep(1)
        print(store.getStatus()["leader"], flush=True)


if __name__ == "__main__":
    main()
