"""Long work in the reactor, cut into slices so that nothing else waits long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSettings:
    """How much of the reactor's time snapshotting takes.

    :ivar slice_seconds: how long it works at a time; one chunk may take longer.
    :ivar pause_seconds: how long it then leaves the reactor to others.
    :ivar late_seconds: a slice that comes later than this has been waiting for others, so that the reactor is busy.
    :ivar busy_pauses: how many times as long as a slice took a busy reactor is then left to others, where nobody waits
        for the work; a slice is one chunk then.
    :ivar longest_pause_seconds: no pause is longer: a slice may have taken long because the machine was busy.
    :ivar max_waiting_chunks: how many chunks may be on their way to or from the disk: bounds the memory.
    """

    slice_seconds: float = 0.005
    pause_seconds: float = 0.005
    late_seconds: float = 0.002
    busy_pauses: float = 64.0
    longest_pause_seconds: float = 0.12
    max_waiting_chunks: int = 16
