"""When Python's cyclic garbage collector looks at what: so seldom, and at so little, that no pass is a pause.

Almost everything here is freed by reference counts. The collector finds cycles only, and pays by visiting every
container that it tracks: with a million keys a pass over all of them stops the process for a tenth of a second. So a
pass is only ever made over what is young, and what survives two of them is put out of its sight (``gc.freeze``), the
large dictionary of the store included: it is frozen while it is still small, and is never visited however it grows.
What is out of sight is still freed by its reference count, as an old store or the compacted part of the log; only a
cycle that lives as long as this, and is dropped later, is never found. The measurements are in
``docs/decisions/garbage-collection-and-pauses.md``.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from typing import Final

_YOUNG_OBJECTS: Final = 10_000  # new containers, net of those freed, between two passes over the youngest: 2 to 4 ms
_YOUNG_PASSES: Final = 5  # passes over the youngest between two over the next generation: 10 ms or so
_NEVER: Final = 1_000_000


def tune_collector() -> None:
    """Set the thresholds, and freeze what has proved to be long-lived from now on. Calling it again changes nothing."""
    if sys.version_info >= (3, 14):
        return  # its collector works in increments of its own, and has no old generation to keep out of
    gc.set_threshold(_YOUNG_OBJECTS, _YOUNG_PASSES, _NEVER)
    if freeze_survivors not in gc.callbacks:
        gc.callbacks.append(freeze_survivors)


def freeze_survivors(phase: str, info: Mapping[str, int]) -> None:
    """Freeze what survived a pass over more than the youngest generation; called by the collector.

    Nothing is younger at this moment than what the pass has visited, so no young garbage is frozen with it.
    """
    if phase == "stop" and info["generation"] > 0:
        gc.freeze()


def freeze_long_lived() -> None:
    """Take everything that exists now out of the collector's sight: modules, classes, the log that was read.

    Not for a process that serves: this is a pass over everything. Before a fork it also keeps the parent's memory
    shared, as the collector then writes to none of it.
    """
    gc.collect()
    gc.freeze()
