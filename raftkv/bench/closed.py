"""A closed loop over raw sockets: so many requests outstanding, each answer makes room for the next request.

One thread, no framework, no object for a request: what comes in one read is answered with one write. It takes the same
few microseconds for a request whichever server it talks to. What goes wrong (an error, a connection that is lost, a
leader that changes) is the matter of a tick, ten times a second, so that what goes right pays nothing for it; and a
request that was refused makes room for the next one only then, so that errors are not asked for as fast as can be.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator
from itertools import islice
from typing import Final

from raftkv.bench.conversations import Talk, conversation
from raftkv.bench.figures import Measured
from raftkv.bench.link import Link
from raftkv.bench.overseer import REPORT_SECONDS, Move, Overseer
from raftkv.bench.specification import Load

_DRAIN_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 60.0  # of a load that counts its requests and does not reconnect
_RECONNECT_SECONDS: Final = 1.0  # that a node may take to accept a connection while the others wait
_LATE_SECONDS: Final = 1.0  # by which a tick may be late before this process is taken for having stood still

# Codes of errors that are the connection's and not an answer.
CONNECTION_LOST: Final = "connection_lost"
NO_ANSWER: Final = "no_answer"


class Loop:
    """The requests of one load.

    :param overseer: hears how it goes.
    :param talk: makes the conversation of a connection.
    """

    _counts_late_answers = False  # those that come after the end

    def __init__(self, load: Load, overseer: Overseer, talk: Talk = conversation) -> None:
        self._load = load
        self._overseer = overseer
        self._talk = talk
        self._keys: Iterator[bytes] = load.key_stream()
        self._selector = self._make_selector()
        self._links: list[Link] = []  # those that are asked, and those that still have answers to give
        self._places: list[Link | None] = []  # those that are asked, by number; None while one is lost
        self._idle: list[int] = []  # requests of each place that wait for the next tick
        self._measured = Measured()
        self._targets, self._others = load.addresses, load.others
        self._attempts = 0
        self._began = self._next_tick = 0.0
        self._ends = False  # nothing more is asked for

    def _make_selector(self) -> selectors.BaseSelector:
        return selectors.DefaultSelector()

    # -- from beginning to end -------------------------------------------------------------------------------------

    def run(self) -> Measured:
        """Run to the end, and return what nobody has been told yet.

        :raises OSError: a connection cannot be made at the beginning; where the load does not reconnect, ever.
        :raises raftkv.bench.conversations.NotUnderstood: somebody else listens there.
        """
        load = self._load
        if self._overseer.descriptor is not None:
            self._selector.register(self._overseer.descriptor, selectors.EVENT_READ, None)
        connections = min(load.connections, load.outstanding)
        for place in range(connections):
            self._places.append(self._open(load.addresses[place % len(load.addresses)], place, timeout=10.0))
            self._idle.append(load.outstanding // connections + (place < load.outstanding % connections))
        self._began = time.perf_counter()
        self._start()
        if load.requests:
            return self._until_all_are_answered()
        self._turns(self._began + load.warmup_seconds)
        self._forget()
        self._overseer.begun()
        self._began = time.perf_counter()
        self._turns(self._began + load.seconds)
        return self._finish()

    def _start(self) -> None:
        """Send the first requests."""
        self._next_tick = self._began + REPORT_SECONDS
        self._ask_idle()

    def _forget(self) -> None:
        self._measured.latencies.clear()
        self._measured.errors.clear()

    def _until_all_are_answered(self) -> Measured:
        self._overseer.begun()
        give_up = self._began + _PATIENCE_SECONDS
        known = 0
        while self._is_at_work() and not self._ends:
            self._turn(self._next_tick)
            if time.perf_counter() < self._next_tick:
                continue
            self._tick()
            if len(self._measured.latencies) != known:
                known = len(self._measured.latencies)
                give_up = time.perf_counter() + _PATIENCE_SECONDS
            elif time.perf_counter() >= give_up:
                raise RuntimeError("no answer for a minute")
        return self._finish()

    def _is_at_work(self) -> bool:
        """Tell whether an answer is awaited, or a request waits for its turn."""
        return bool(self._under_way()) or any(self._idle)

    def _finish(self) -> Measured:
        """Count what is still under way as nothing, or as it comes; what fails, or never comes, is an error."""
        measured = self._measured
        measured.seconds = time.perf_counter() - self._began
        measured.unsent = self._unsent()
        self._overseer.report(measured)
        told, self._measured = measured, Measured()
        self._ends = True
        self._keys = iter(())
        give_up = time.perf_counter() + _DRAIN_SECONDS
        while self._under_way() and self._turn(give_up):
            pass
        if self._counts_late_answers:
            told.latencies += self._measured.latencies
        told.errors.update(self._measured.errors)  # asked for in time: an outage at the end is one, too
        if missing := self._under_way():
            told.errors[NO_ANSWER] += missing
        for link in self._links:
            link.socket.close()
        self._selector.close()
        return told

    def _unsent(self) -> int:
        """Return how many requests should have been sent by now and were not."""
        return 0

    def _under_way(self) -> int:
        return sum(len(link.sent) for link in self._links)

    # -- one turn --------------------------------------------------------------------------------------------------

    def _turns(self, end: float) -> None:
        while not self._ends and time.perf_counter() < end:
            until = min(end, self._next_tick)
            while self._turn(until) and not self._ends:
                pass
            if time.perf_counter() >= self._next_tick:
                self._tick()

    def _turn(self, end: float) -> bool:
        """Take what has come; return whether it came before the end."""
        for link in self._links:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.is_blocked else 0)
            if self._selector.get_key(link.socket).events != events:
                self._selector.modify(link.socket, events, link)
        ready = self._selector.select(max(0.0, end - time.perf_counter()))
        for key, events in ready:
            link = key.data
            if link is None:
                self._obey()
                break  # what else was ready is so the next time, unless it is gone
            try:
                if events & selectors.EVENT_WRITE:
                    link.send(b"")
                if events & selectors.EVENT_READ:
                    self._take(link)
            except OSError:
                self._lost(link, CONNECTION_LOST)
        return time.perf_counter() < end

    def _take(self, link: Link) -> None:
        good, bad = link.receive()
        now = time.perf_counter()
        pop = link.sent.pop
        self._measured.latencies += [now - pop(number) for number in good]
        link.heard = now
        if bad:
            self._refused(link, bad)
        if link.talk.ends:
            if not link.is_leaving:
                self._idle[link.place] += len(good)
            self._lost(link, CONNECTION_LOST)
        elif good and not link.is_leaving:
            self._freed(link, len(good))

    def _freed(self, link: Link, count: int) -> None:
        """Ask for the next keys: so many have been answered."""
        keys = list(islice(self._keys, count))
        if keys:
            link.ask(keys)

    def _refused(self, link: Link, bad: list[int]) -> None:
        for number in bad:
            link.sent.pop(number, None)
        self._measured.errors.update(link.talk.codes)
        link.talk.codes.clear()
        if not link.is_leaving:
            self._idle[link.place] += len(bad)

    # -- what goes wrong -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """See after the connections, and tell how it goes."""
        now = time.perf_counter()
        # Where it was this process that stood still, answers may be here that have not been read: nobody is silent.
        is_late = now - self._next_tick > _LATE_SECONDS
        self._next_tick = now + REPORT_SECONDS
        for link in list(self._links):
            if not link.sent or is_late:
                link.heard = now
                if link.is_leaving and not link.sent:
                    self._drop(link)
            elif self._load.reconnects and now - link.heard > self._load.answer_seconds:
                self._lost(link, NO_ANSWER)
        for place, link_or_none in enumerate(self._places):
            if link_or_none is None and not self._reopen(place):
                break  # the others would be refused as well, or would wait as long
        self._ask_idle()
        self._measured.seconds = time.perf_counter() - self._began
        self._overseer.report(self._measured)

    def _ask_idle(self) -> None:
        """Send the requests for which there is room again."""
        for place, count in enumerate(self._idle):
            link = self._places[place]
            if link is None or not count:
                continue
            self._idle[place] = 0
            try:
                self._freed(link, count)
            except OSError:
                self._lost(link, CONNECTION_LOST)

    def _open(self, address: str, place: int, *, timeout: float) -> Link:
        link = Link(address, self._talk(self._load), timeout=timeout, place=place)
        self._links.append(link)
        self._selector.register(link.socket, selectors.EVENT_READ, link)
        return link

    def _reopen(self, place: int) -> bool:
        """Try to put a connection in the place of a lost one, each time to the next address."""
        addresses = (*self._targets, *self._others)
        try:
            self._places[place] = self._open(
                addresses[self._attempts % len(addresses)], place, timeout=_RECONNECT_SECONDS
            )
        except OSError:
            self._attempts += 1
            return False
        return True

    def _lost(self, link: Link, code: str) -> None:
        """Count what was under way on a connection as failed, and give its requests to the next one there."""
        if not self._load.reconnects:
            raise ConnectionError(f"{link.address}: {code}")
        self._drop(link)
        if link.sent:  # else nobody has missed it
            self._measured.errors[code] += len(link.sent)
        if not link.is_leaving:
            self._idle[link.place] += len(link.sent)
            self._places[link.place] = None
            self._attempts += 1
        link.sent.clear()

    def _drop(self, link: Link) -> None:
        self._links.remove(link)
        self._selector.unregister(link.socket)
        link.socket.close()

    def _obey(self) -> None:
        """Do what has been ordered."""
        for order in self._overseer.orders():
            if isinstance(order, Move):
                self._move(order)
            else:
                self._ends = True
                if self._overseer.descriptor is not None:
                    self._selector.unregister(self._overseer.descriptor)
                return

    def _move(self, order: Move) -> None:
        """Ask others from now on; what is under way on the old connections is still awaited."""
        self._targets, self._others, self._attempts = order.addresses, order.others, 0
        for place, link in enumerate(self._places):
            if link is None or link.address in order.addresses:
                continue
            link.is_leaving = True
            self._idle[place] += len(link.sent)
            self._places[place] = None
        self._next_tick = time.perf_counter()


def run(load: Load, overseer: Overseer, talk: Talk = conversation) -> Measured:
    """Run a load in a closed loop."""
    return Loop(load, overseer, talk).run()
