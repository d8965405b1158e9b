"""Latencies and errors of a load whose requests are made by a client and not by a loop of ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import inf

from raftkv.bench.figures import Measured
from raftkv.bench.overseer import Overseer
from raftkv.bench.specification import Load


class Tally:
    """The latencies and errors of a load, from the end of the warm-up to the end.

    :param overseer: hears when the warm-up is over.
    :ivar keys: of the requests; several may take from it by turns.
    :ivar unsent: see :class:`~raftkv.bench.figures.Measured`; set by whoever sends.
    """

    def __init__(self, load: Load, overseer: Overseer) -> None:
        self.keys: Iterator[bytes] = load.key_stream()
        self._measured = Measured()
        self._overseer = overseer
        self.unsent = 0
        self._is_measuring = False
        self._is_paced = bool(load.rate)
        self._seconds = inf if load.requests else load.seconds
        self._last = 0.0  # when the last answer came
        now = time.perf_counter()
        self._begin = now + (0.0 if load.requests else load.warmup_seconds)
        self._end = self._begin + self._seconds

    @property
    def end(self) -> float:
        """When nothing more is asked for, by ``time.perf_counter``; infinity where the number of requests says so."""
        return self._end

    @property
    def goes_on(self) -> bool:
        """Whether more is to be asked for."""
        now = time.perf_counter()
        if not self._is_measuring:
            self._look_at_warmup(now)
        return now < self._end

    def _look_at_warmup(self, now: float) -> None:
        """Measure from now on, where the warm-up is over."""
        if now >= self._begin and not self._is_measuring:
            self._is_measuring = True
            # It may be late: a client that is busy with itself asks seldom.
            self._begin, self._end = now, now + self._seconds
            self._overseer.begun()

    def answered(self, sent: float, error: str = "") -> None:
        """Take an answer.

        :param sent: when its request was sent, or was due.
        :param error: the code, of an error.
        """
        now = time.perf_counter()
        if not self._is_measuring:
            return
        if now < self._end:
            self._last = now
        if error:
            self._measured.errors[error] += 1  # also after the end: an outage there is one, too
        elif now < self._end or (self._is_paced and sent < self._end):
            # At a rate what was due in time counts, however late it comes: so is a stall.
            self._measured.latencies.append(now - sent)

    def stop(self) -> None:
        """Ask for nothing more; of what comes later only errors count."""
        self._end = min(self._end, time.perf_counter())

    def report(self) -> None:
        """Tell the overseer how it goes; begin to measure, where it is time for that and every request is stuck."""
        now = time.perf_counter()
        self._look_at_warmup(now)
        if self._is_measuring:
            self._measured.seconds = max(0.0, min(now, self._end) - self._begin)
            self._overseer.report(self._measured)

    def finish(self) -> Measured:
        """Return what nobody has been told yet, at the end of all."""
        self._look_at_warmup(time.perf_counter())  # a load without a single request has begun, too
        end = self._last if self._end == inf else self._end
        self._measured.seconds = max(0.0, end - self._begin)
        self._measured.unsent = self.unsent
        self._overseer.report(self._measured)
        return self._measured
