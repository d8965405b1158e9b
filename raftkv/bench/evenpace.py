"""A load at a rate: each request is sent when it is due, whatever the answers do, and its latency counts from then.

So a server that stalls for a second has made a second's requests late, and the figures say so; a closed loop would have
asked for nothing meanwhile and would count the stall once. What is outstanding is bounded all the same: what is due
beyond that waits, and its waiting counts.
"""

from __future__ import annotations

import selectors
import time
from itertools import islice

from raftkv.bench.closed import CONNECTION_LOST, Loop
from raftkv.bench.figures import Measured
from raftkv.bench.link import Link
from raftkv.bench.overseer import Overseer
from raftkv.bench.specification import Load


class EvenPace(Loop):
    """The requests of one load with a rate."""

    _counts_late_answers = True  # they were due in time, and a stall at the end is one, too
    _number = 0  # of the next request, from the beginning of all
    _first_due = 0.0
    _is_exhausted = False

    def _make_selector(self) -> selectors.BaseSelector:
        # epoll wakes to the millisecond, up to one too late; this one to the microsecond.
        return selectors.SelectSelector()

    def _start(self) -> None:
        super()._start()
        self._first_due = self._began

    def _is_at_work(self) -> bool:
        return bool(self._under_way()) or not self._is_exhausted

    def _unsent(self) -> int:
        return 0 if self._is_exhausted else max(0, self._due() - 1 - self._number)  # the last one is due just now

    def _due(self) -> int:
        """Return how many requests should have been sent by now."""
        return int((time.perf_counter() - self._first_due) * self._load.rate) + 1

    def _turn(self, end: float) -> bool:
        wake = end
        if not self._ends and not self._is_exhausted:
            room = self._load.outstanding - self._under_way()
            count = min(self._due() - self._number, room)
            if count > 0:
                self._send(count)
            if room > count:
                wake = min(end, self._first_due + self._number / self._load.rate)
        super()._turn(wake)
        return time.perf_counter() < end

    def _send(self, count: int) -> None:
        """Send what is due, on the connections in turn; nothing while there is none."""
        links = [link for link in self._places if link is not None]
        if not links:
            time.sleep(max(0.0, min(0.01, self._next_tick - time.perf_counter())))  # until a tick opens one
            return
        keys = list(islice(self._keys, count))
        self._is_exhausted = len(keys) < count
        due = [self._first_due + (self._number + n) / self._load.rate for n in range(len(keys))]
        self._number += len(keys)
        for at in range(min(len(links), len(keys))):
            link = links[(self._number + at) % len(links)]
            try:
                link.ask_due(keys[at :: len(links)], due[at :: len(links)])
            except OSError:
                self._lost(link, CONNECTION_LOST)

    def _freed(self, link: Link, count: int) -> None:
        """An answer makes no request."""


def run(load: Load, overseer: Overseer) -> Measured:
    """Run a load at its rate."""
    return EvenPace(load, overseer).run()
