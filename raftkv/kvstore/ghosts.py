"""Keys that are no more, as long as some revision may still be asked for at which they were.

They have an order of their own, beside that of the live keys: a range of the past is the merge of both, and a range of
today never meets them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from raftkv.kvstore.keys import OrderedKeys


class Ghosts:
    """Deleted keys, by name and in order.

    :ivar revisions: which revision deleted each.
    """

    __slots__ = ("_keys", "revisions")

    def __init__(self) -> None:
        self.revisions: dict[bytes, int] = {}
        self._keys = OrderedKeys()

    def __len__(self) -> int:
        return len(self.revisions)

    def keys(self, start: bytes, end: bytes | None, *, reverse: bool) -> Iterator[bytes]:
        """Yield those of a range in order; nothing may change until all of them are drawn."""
        runs = self._keys.runs_back if reverse else self._keys.runs
        return chain.from_iterable(runs(start, end))

    def count(self, start: bytes, end: bytes | None) -> int:
        """Return how many lie in a range."""
        return self._keys.count(start, end)

    def bury(self, key: bytes, revision: int) -> None:
        """Take note of a key that was live and has been deleted."""
        self.revisions[key] = revision
        self._keys.add(key)

    def unbury(self, key: bytes) -> int | None:
        """Forget a key; return the revision that deleted it, ``None`` where that is not known."""
        revision = self.revisions.pop(key, None)
        if revision is not None:
            self._keys.remove(key)
        return revision

    def forget(self, key: bytes, revision: int) -> None:
        """Forget a key if that is the revision that deleted it: nobody can ask for it any more."""
        if self.revisions.get(key) == revision:
            self.unbury(key)

    def restore(self, revisions: dict[bytes, int]) -> None:
        """Take over the ghosts out of a snapshot; there have been none before."""
        self.revisions = revisions
        self._keys.extend(sorted(revisions))

    def discard(self, limit: int) -> bool:
        """Free some of what is no longer used; return whether more are left."""
        for _ in range(min(limit, len(self.revisions))):
            self.revisions.popitem()
        return self._keys.discard(limit) or bool(self.revisions)
