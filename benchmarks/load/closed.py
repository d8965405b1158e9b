"""The closed loop of :mod:`raftkv.bench.closed`, with the conversations of all contestants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.load.conversations import conversation
from raftkv.bench.closed import Loop
from raftkv.bench.overseer import Silent
from raftkv.bench.specification import Load


def run(load: Load, begun: Callable[[], None]) -> dict[str, Any]:
    """Run a load in a closed loop."""
    return Loop(load, Silent(begun), conversation).run().figures()
