"""The keys of the store in order, for ranges and for snapshots; knows nothing of records.

Keys rest in blocks, sorted lists of some hundred keys each, and a list of separators tells which block a key belongs
to. A write does not touch the blocks: it notes the key in a set of pending changes, and once that set is full (or a
range is read) all of them are merged in one pass in key order. Neighbours then share the search for their block, the
processor's cache sees each block once, and a key that is made and deleted in between costs nothing; yet no merge is
longer than :data:`PENDING_LIMIT` keys, so no pause arises. The measurements are in
``docs/decisions/0001-ordered-keys.md``.

A snapshot wants the keys of one moment while writes go on: :meth:`OrderedKeys.share` hands the blocks out as they
are, and from then on a block is copied before it is changed (once, and only where it is changed at all).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

BLOCK_KEYS: Final = 512  #: keys of a block when it has just been split; it is split at twice this
PENDING_LIMIT: Final = 512  #: changes gathered before they are merged: this bounds the pause


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the smallest key above all keys that start with ``prefix``, or ``None`` where there is no such key.

    The range ``[prefix, prefix_end(prefix))`` is then exactly what starts with the prefix; ``None`` is the open end.
    """
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes((stripped[-1] + 1,))


class OrderedKeys:
    """A sorted set of keys whose changes are cheap and whose merging is done in small portions.

    Every block but the only one of an empty set holds keys. ``separators[i] <= key < separators[i + 1]`` for each
    ``key`` of block ``i``; the first separator is ``b""``. A separator need not be in its block.
    """

    __slots__ = ("_blocks", "_pending", "_separators", "_shared")

    def __init__(self) -> None:
        self._blocks: list[list[bytes]] = [[]]
        self._separators: list[bytes] = [b""]
        self._pending: set[bytes] = set()  # keys whose presence differs from that in the blocks
        self._shared: set[int] = set()  # ids of blocks that a snapshot reads (and so keeps alive)

    def toggle(self, key: bytes) -> None:
        """Note that ``key``, which was absent, is now present, or the reverse.

        The caller knows which of the two from its own records; saying it wrongly is not noticed here.
        """
        pending = self._pending
        if key in pending:
            pending.remove(key)
            return
        pending.add(key)
        if len(pending) >= PENDING_LIMIT:
            self._merge()

    def extend(self, keys: Sequence[bytes]) -> None:
        """Append keys that are sorted and above all that are present: how a snapshot is restored.

        :raises ValueError: they are not.
        """
        self._merge()
        last = self._blocks[-1]
        previous = last[-1] if last else None
        for key in keys:
            if previous is not None and key <= previous:
                raise ValueError(f"key {key!r} does not follow {previous!r}")
            previous = key
        if last:
            last = self._own(len(self._blocks) - 1)
        position = 0
        while position < len(keys):
            if len(last) >= BLOCK_KEYS:
                last = []
                self._blocks.append(last)
                self._separators.append(keys[position])
            taken = keys[position : position + BLOCK_KEYS - len(last)]
            last.extend(taken)
            position += len(taken)

    def runs(self, start: bytes, end: bytes | None) -> Iterator[list[bytes]]:
        """Yield the keys with ``start <= key``, and ``key < end`` unless that is ``None``, in order, as lists.

        Between two lists the keys may change; each list is what was true when it was made.
        """
        while True:
            self._merge()
            i = bisect_right(self._separators, start) - 1
            block = self._blocks[i]
            above = self._separators[i + 1] if i + 1 < len(self._separators) else None
            ends_here = above is None or (end is not None and end <= above)
            run = block[bisect_left(block, start) : bisect_left(block, end) if ends_here and end is not None else None]
            if run:
                yield run
            if ends_here or above is None:
                return
            start = above

    def runs_back(self, start: bytes, end: bytes | None) -> Iterator[list[bytes]]:
        """Yield what :meth:`runs` does, from the last key to the first."""
        while True:
            self._merge()
            i = (len(self._blocks) if end is None else bisect_left(self._separators, end)) - 1
            if i < 0:
                return
            block, floor = self._blocks[i], self._separators[i]
            run = block[bisect_left(block, start) : None if end is None else bisect_left(block, end)]
            if run:
                run.reverse()
                yield run
            if floor <= start:
                return
            end = floor

    def count(self, start: bytes, end: bytes | None) -> int:
        """Return how many keys lie in the range that :meth:`runs` yields."""
        if end is not None and end <= start:
            return 0
        self._merge()
        first, offset = self._position(start)
        last, end_offset = (len(self._blocks) - 1, len(self._blocks[-1])) if end is None else self._position(end)
        return sum(map(len, islice(self._blocks, first, last))) + end_offset - offset

    def share(self) -> tuple[list[bytes], ...]:
        """Return the keys of this moment, in order, as blocks that stay as they are until :meth:`unshare`.

        The caller must not change the blocks, and holds on to all of them until then.
        """
        self._merge()
        blocks = tuple(self._blocks)
        self._shared = set(map(id, blocks))
        return blocks

    def unshare(self) -> None:
        """Say that the blocks handed out by :meth:`share` are no longer read."""
        self._shared = set()

    def discard(self, limit: int) -> bool:
        """Free about ``limit`` keys of a set that is no longer used; return whether more are left."""
        self._pending.clear()
        while self._blocks and limit > 0:
            limit -= len(self._blocks.pop()) or 1
        return bool(self._blocks)

    def _position(self, key: bytes) -> tuple[int, int]:
        """Return the block that ``key`` belongs to, and the place in it."""
        i = bisect_right(self._separators, key) - 1
        return i, bisect_left(self._blocks[i], key)

    def _own(self, i: int) -> list[bytes]:
        """Return block ``i`` for changing, copied first where a snapshot reads it."""
        block = self._blocks[i]
        if id(block) in self._shared:
            # The id stays in the set: the snapshot keeps the original alive, so no other block can get it.
            block = self._blocks[i] = block.copy()
        return block

    def _merge(self) -> None:
        """Carry the pending changes into the blocks, in key order, one block after the other."""
        if not self._pending:
            return
        keys = sorted(self._pending)
        self._pending.clear()
        separators = self._separators
        i = place = 0
        block = self._blocks[0]
        above: bytes | None = (
            b""  # the next separator; the first key is at or above this one, and so looks for its block
        )
        for key in keys:
            if above is not None and key >= above:
                if not BLOCK_KEYS // 4 <= len(block) < 2 * BLOCK_KEYS:
                    self._resize(i)  # however it splits or joins, the key's separator stays at or behind i
                i = bisect_right(separators, key, i) - 1
                above = separators[i + 1] if i + 1 < len(separators) else None
                block = self._own(i)
                place = 0
            place = bisect_left(block, key, place)
            if place < len(block) and block[place] == key:
                del block[place]
            else:
                block.insert(place, key)
        self._resize(i)

    def _resize(self, i: int) -> None:
        """Split block ``i`` where it has grown long, join it to a neighbour where it has grown short."""
        block = self._blocks[i]
        if len(block) >= 2 * BLOCK_KEYS:
            self._blocks[i : i + 1] = [block[at : at + BLOCK_KEYS] for at in range(0, len(block), BLOCK_KEYS)]
            self._separators[i : i + 1] = [
                self._separators[i],
                *(block[at] for at in range(BLOCK_KEYS, len(block), BLOCK_KEYS)),
            ]
        elif len(block) < BLOCK_KEYS // 4 and len(self._blocks) > 1:
            left = i - 1 if i > 0 else 0
            if not block or len(self._blocks[left]) + len(self._blocks[left + 1]) <= BLOCK_KEYS:
                self._own(left).extend(self._blocks[left + 1])
                del self._blocks[left + 1]
                del self._separators[left + 1]
