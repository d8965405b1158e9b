"""Long work in the reactor, cut into slices so that nothing else waits long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSettings:
    """How much of the reactor's time snapshotting takes.

    :ivar slice_seconds: how long it works at a time; one chunk may take longer.
    :ivar pause_seconds: how long it then leaves the reactor to others.
    :ivar max_waiting_chunks: how many chunks may be on their way to or from the disk: bounds the memory.
    """

    slice_seconds: float = 0.005
    pause_seconds: float = 0.005
    max_waiting_chunks: int = 16
