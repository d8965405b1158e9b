"""The story of one run: a checksum that two equal runs share, and the lines of it where somebody wants to read them."""

from __future__ import annotations

import zlib
from collections.abc import Callable


class Trace:
    """Notes what happens.

    :param seconds: the virtual time.
    :param keep: whether to keep the lines; the checksum is made in either case.
    :ivar lines: what happened, in order, empty unless kept.
    """

    def __init__(self, seconds: Callable[[], float], *, keep: bool = False) -> None:
        self._seconds = seconds
        self._checksum = 0
        self.keeps_lines = keep
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Add one line; it must not depend on anything but the seed."""
        line = f"{self._seconds():.6f} {text}"
        self._checksum = zlib.crc32(line.encode(), self._checksum)
        if self.keeps_lines:
            self.lines.append(line)

    def digest(self) -> str:
        """Return the checksum of everything noted so far, in hex."""
        return f"{self._checksum:08x}"
