"""The keys of the store in order, for ranges and for snapshots; knows nothing of records.

Keys rest in blocks, sorted lists of some hundred keys each, and a list of separators tells which block a key belongs
to. A write does not touch the block: it notes the key in a list of changes beside it, and once that is long (or the
block is read) they are carried into the block all at once, by sorting it anew: to sort two sorted runs is one pass over
them, in C. So many share the cost of moving a block's keys and of having them in the processor's cache; a key that is
made and deleted in between costs nothing; and no step is longer than one block, so no pause arises. The measurements
are in ``docs/decisions/0001-ordered-keys.md``.

A snapshot wants the keys of one moment while writes go on: :meth:`OrderedKeys.share` hands the blocks out as they
are, and from then on a block is copied before it is changed (once, and only where it is changed at all).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

BLOCK_KEYS: Final = 512  #: keys of a block when it has just been split; it is split at twice this
CHANGES_LIMIT: Final = 128  #: changes gathered beside a block before they are carried into it
_FEW: Final = 16  # changes for which it is cheaper to look for the place of each than to sort the block anew


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the smallest key above all keys that start with ``prefix``, or ``None`` where there is no such key.

    The range ``[prefix, prefix_end(prefix))`` is then exactly what starts with the prefix; ``None`` is the open end.
    """
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes((stripped[-1] + 1,))


class OrderedKeys:
    """A sorted set of keys whose changes are cheap and are carried out in small portions.

    Every block but the only one of an empty set holds keys. ``separators[i] <= key < separators[i + 1]`` for each
    ``key`` of block ``i`` and of its changes; the first separator is ``b""``. A separator need not be in its block.
    """

    __slots__ = ("_blocks", "_changes", "_going", "_separators", "_shared")

    def __init__(self) -> None:
        self._blocks: list[list[bytes]] = [[]]
        self._separators: list[bytes] = [b""]
        self._changes: list[list[bytes]] = [[]]  # of each block: keys whose presence differs from that in it
        self._going: set[bytes] = set()  # of those changes, of all blocks, the ones that take a key away
        self._shared: set[int] = set()  # ids of blocks that a snapshot reads (and so keeps alive)

    def add(self, key: bytes) -> None:
        """Note that ``key``, which was absent, is now present; saying it wrongly is not noticed here."""
        i = bisect_right(self._separators, key) - 1
        changes = self._changes[i]
        if self._going and key in self._going:
            self._going.remove(key)
            changes.remove(key)
            return
        changes.append(key)
        if len(changes) >= CHANGES_LIMIT:
            self._merge(i)

    def remove(self, key: bytes) -> None:
        """Note that ``key``, which was present, is now absent; saying it wrongly is not noticed here."""
        i = bisect_right(self._separators, key) - 1
        changes = self._changes[i]
        if key in changes:
            changes.remove(key)
            return
        changes.append(key)
        self._going.add(key)
        if len(changes) >= CHANGES_LIMIT:
            self._merge(i)

    def extend(self, keys: Sequence[bytes]) -> None:
        """Append keys that are sorted and above all that are present: how a snapshot is restored.

        :raises ValueError: they are not.
        """
        i = self._settled_below(None)
        last = self._blocks[i]
        previous = last[-1] if last else None
        for key in keys:
            if previous is not None and key <= previous:
                raise ValueError(f"key {key!r} does not follow {previous!r}")
            previous = key
        last = self._own(i)
        position = 0
        while position < len(keys):
            if len(last) >= BLOCK_KEYS:
                last = []
                self._insert_behind(len(self._blocks) - 1, last, keys[position])
            taken = keys[position : position + BLOCK_KEYS - len(last)]
            last.extend(taken)
            position += len(taken)

    def runs(self, start: bytes, end: bytes | None) -> Iterator[list[bytes]]:
        """Yield the keys with ``start <= key``, and ``key < end`` unless that is ``None``, in order, as lists.

        Between two lists the keys may change; each list is what was true when it was made.
        """
        while True:
            i = self._settled_at(start)
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
            i = self._settled_below(end)
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
        if end is not None:
            self._settled_at(end)  # may move blocks, as the next line may; neither makes new changes
        first = self._settled_at(start)
        offset = bisect_left(self._blocks[first], start)
        last = len(self._blocks) if end is None else bisect_right(self._separators, end) - 1
        whole = sum(map(len, islice(self._blocks, first, last)))
        for changes in islice(self._changes, first, last):
            whole += len(changes) - (2 * len(self._going.intersection(changes)) if self._going else 0)
        return whole - offset + (0 if end is None else bisect_left(self._blocks[last], end))

    def share(self) -> Iterator[list[bytes]]:
        """Return the keys of this moment, in order, in lists that are made while they are drawn.

        The blocks of this moment stay as they are until :meth:`unshare`.
        """
        blocks = self._blocks.copy()
        self._shared = set(map(id, blocks))
        return map(_changed, blocks, [changes.copy() for changes in self._changes])

    def unshare(self) -> None:
        """Say that what was handed out by :meth:`share` is no longer read."""
        self._shared = set()

    def discard(self, limit: int) -> bool:
        """Free about ``limit`` keys of a set that is no longer used; return whether more are left."""
        self._going.clear()
        while self._blocks and limit > 0:
            limit -= len(self._blocks.pop()) + len(self._changes.pop()) or 1
        return bool(self._blocks)

    def _settled_at(self, key: bytes) -> int:
        """Return the block that ``key`` belongs to, with nothing beside it."""
        while self._changes[i := bisect_right(self._separators, key) - 1]:
            self._merge(i)
        return i

    def _settled_below(self, end: bytes | None) -> int:
        """Return the last block with keys below ``end`` (``None``: of all), with nothing beside it; -1 for none."""
        while (i := (len(self._blocks) if end is None else bisect_left(self._separators, end)) - 1) >= 0:
            if not self._changes[i]:
                break
            self._merge(i)
        return i

    def _own(self, i: int) -> list[bytes]:
        """Return block ``i`` for changing, copied first where a snapshot reads it."""
        block = self._blocks[i]
        if id(block) in self._shared:
            # The id stays in the set: the snapshot keeps the original alive, so no other block can get it.
            block = self._blocks[i] = block.copy()
        return block

    def _merge(self, i: int) -> None:
        """Carry the changes of a block into it; split it where it has grown long, join it where it has grown short."""
        changes, self._changes[i] = self._changes[i], []
        block = self._own(i)
        gone = self._going.intersection(changes) if self._going else ()
        if gone:
            self._going -= gone
            block[:] = [key for key in block if key not in gone]
            changes = [key for key in changes if key not in gone]
        if len(changes) <= _FEW:
            for key in changes:
                insort(block, key)
        else:
            changes.sort()
            block += changes
            block.sort()
        if len(block) >= 2 * BLOCK_KEYS:
            self._split(i, block)
        elif len(block) < BLOCK_KEYS // 4 and len(self._blocks) > 1:
            self._join(i, block)

    def _split(self, i: int, block: list[bytes]) -> None:
        for at in range(BLOCK_KEYS, len(block), BLOCK_KEYS):
            i += 1
            self._insert_behind(i - 1, block[at : at + BLOCK_KEYS], block[at])
        del block[BLOCK_KEYS:]

    def _insert_behind(self, i: int, block: list[bytes], separator: bytes) -> None:
        self._blocks.insert(i + 1, block)
        self._separators.insert(i + 1, separator)
        self._changes.insert(i + 1, [])

    def _join(self, i: int, block: list[bytes]) -> None:
        left = i - 1 if i > 0 else 0
        if block and len(self._blocks[left]) + len(self._blocks[left + 1]) > BLOCK_KEYS:
            return
        self._own(left).extend(self._blocks[left + 1])
        self._changes[left] += self._changes[left + 1]
        del self._blocks[left + 1], self._separators[left + 1], self._changes[left + 1]


def _changed(block: list[bytes], changes: list[bytes]) -> list[bytes]:
    """Return the keys of a block as its changes make them."""
    return sorted(set(block).symmetric_difference(changes)) if changes else block
