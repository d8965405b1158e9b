"""Which of many ranges hold a key, without looking at all of them.

The ranges stand in the order of their starts, in blocks that know the largest end in them: a search visits the blocks
up to the key, of which it opens only those in which some range reaches beyond it. For n ranges that is some √n steps
besides those that find something.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

Held = TypeVar("Held")
Bounds = tuple[bytes, bytes]  #: start and end; an end of ``b""`` is none, as everywhere

_BLOCK_RANGES: Final = 64  # a block of twice as many is divided


class RangeTable(Generic[Held]):
    """Values by range: as a dictionary, and by the keys that are in it."""

    __slots__ = ("_blocks", "_by_bounds", "_firsts", "_reaches")

    def __init__(self) -> None:
        self._by_bounds: dict[Bounds, Held] = {}
        self._blocks: list[list[Bounds]] = []  # sorted, none of them empty
        self._firsts: list[Bounds] = []  # of each block
        self._reaches: list[bytes] = []  # of each block: the largest end, b"" where one has none

    def __len__(self) -> int:
        return len(self._by_bounds)

    def get(self, bounds: Bounds) -> Held | None:
        """Return what a range holds, ``None`` where it is not here."""
        return self._by_bounds.get(bounds)

    def set(self, bounds: Bounds, held: Held) -> None:
        """Give a range something to hold, in place of what it held."""
        if bounds not in self._by_bounds:
            self._insert(bounds)
        self._by_bounds[bounds] = held

    def pop(self, bounds: Bounds) -> None:
        """Forget a range that is here.

        :raises KeyError: it is not.
        """
        del self._by_bounds[bounds]
        place = bisect_right(self._firsts, bounds) - 1
        block = self._blocks[place]
        del block[bisect_left(block, bounds)]
        if block:
            self._look_at(place)
        else:
            del self._blocks[place], self._firsts[place], self._reaches[place]

    def values(self) -> Iterator[Held]:
        """Yield everything that is held."""
        return iter(self._by_bounds.values())

    def holding(self, key: bytes) -> Iterator[Held]:
        """Yield what the ranges hold that a key is in, in the order of their starts."""
        by_bounds = self._by_bounds
        for first, reach, block in zip(self._firsts, self._reaches, self._blocks, strict=True):
            if first[0] > key:
                break
            if reach and reach <= key:
                continue
            for bounds in block:
                start, end = bounds
                if start > key:
                    break
                if not end or key < end:
                    yield by_bounds[bounds]

    def _insert(self, bounds: Bounds) -> None:
        if not self._blocks:
            self._blocks.append([bounds])
            self._firsts.append(bounds)
            self._reaches.append(bounds[1])
            return
        place = max(0, bisect_right(self._firsts, bounds) - 1)
        block = self._blocks[place]
        block.insert(bisect_left(block, bounds), bounds)
        if len(block) >= 2 * _BLOCK_RANGES:
            self._blocks[place : place + 1] = [block[:_BLOCK_RANGES], block[_BLOCK_RANGES:]]
            self._firsts.insert(place, bounds)
            self._reaches.insert(place, b"")
            self._look_at(place + 1)
        self._look_at(place)

    def _look_at(self, place: int) -> None:
        block = self._blocks[place]
        self._firsts[place] = block[0]
        self._reaches[place] = max(end for _, end in block) if all(end for _, end in block) else b""
