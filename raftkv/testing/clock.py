"""Virtual time for many nodes at once: one queue of events, and a clock of each node's own that drifts and dies.

:class:`VirtualClock` is a reactor's clock that moves only when it is run, event by event; :class:`NodeClock` is what
one process sees of it. What is called belongs to a process: while that is paused (SIGSTOP) its calls wait, and when it
is killed they never happen, as with a real one. Nothing here knows what a node is.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

_GRAIN_SECONDS: Final = 1e-9


@implementer(IDelayedCall)
class VirtualCall:
    """A call in the queue.

    :ivar time: when it is due, on the virtual clock.
    :ivar owner: the process that it belongs to, ``None`` for the world's own.
    :ivar state: ``waiting``, ``called`` or ``cancelled``; written here and by the clock that makes the call.
    """

    __slots__ = ("_clock", "arguments", "function", "keywords", "owner", "state", "time")

    def __init__(
        self,
        clock: VirtualClock,
        time: float,
        owner: NodeClock | None,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> None:
        self._clock = clock
        self.state = "waiting"
        self.time = time
        self.owner = owner
        self.function = function
        self.arguments = arguments
        self.keywords = keywords

    def getTime(self) -> float:
        """See :class:`IDelayedCall`; in the seconds of the clock that the call was made on."""
        return self.time if self.owner is None else self.owner.own_time(self.time)

    def active(self) -> bool:
        """See :class:`IDelayedCall`."""
        return self.state == "waiting"

    def cancel(self) -> None:
        """See :class:`IDelayedCall`."""
        self._must_wait()
        self.state = "cancelled"

    def delay(self, secondsLater: float) -> None:
        """See :class:`IDelayedCall`."""
        self._must_wait()
        self._clock.move(self, self.time + self._world_seconds(secondsLater))

    def reset(self, secondsFromNow: float) -> None:
        """See :class:`IDelayedCall`."""
        self._must_wait()
        self._clock.move(self, self._clock.seconds() + self._world_seconds(secondsFromNow))

    def happen(self) -> None:
        """Make the call, unless it was cancelled."""
        if self.state == "waiting":
            self.state = "called"
            self.function(*self.arguments, **self.keywords)

    def _world_seconds(self, seconds: float) -> float:
        return seconds if self.owner is None else seconds / self.owner.rate

    def _must_wait(self) -> None:
        if self.state == "called":
            raise AlreadyCalled()
        if self.state == "cancelled":
            raise AlreadyCancelled()


@implementer(IReactorTime)
class VirtualClock:
    """The time of the world.

    An error that escapes from a call ends the run: unlike a reactor, a simulation has nothing to carry on for. Two
    events in five are due at once; those wait in a line of their own, since a heap is dear for what comes in order.

    :param after_event: called after anything that happened in a process, with its clock.
    :ivar events: how many have happened.
    """

    def __init__(self, after_event: Callable[[NodeClock], None] | None = None) -> None:
        self.after_event = after_event
        self.events = 0
        self._now = 0.0
        self._queue: list[tuple[float, int, VirtualCall]] = []
        self._at_once: deque[tuple[float, int, VirtualCall]] = deque()  # in order of time and ticket, as they came
        self._tickets = count()

    def seconds(self) -> float:
        """See :class:`IReactorTime`."""
        return self._now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> IDelayedCall:  # noqa: A002  # Twisted's name
        """See :class:`IReactorTime`; calls of one instant happen in the order in which they were made."""
        return self.call_for(None, delay, callable, args, kw)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """See :class:`IReactorTime`."""
        return [call for time, _, call in (*self._at_once, *self._queue) if call.active() and call.time == time]

    def call_for(
        self,
        owner: NodeClock | None,
        delay: float,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> VirtualCall:
        """Make a call that belongs to a process.

        :param delay: seconds of this clock, not of the owner's.
        """
        if delay < 0:
            raise ValueError(f"a call cannot be made {-delay} seconds ago")
        time = self._now + delay
        call = VirtualCall(self, time, owner, function, arguments, keywords)
        if delay:
            heapq.heappush(self._queue, (time, next(self._tickets), call))
        else:
            self._at_once.append((time, next(self._tickets), call))
        return call

    def move(self, call: VirtualCall, time: float) -> None:
        """Let a waiting call happen at another time."""
        call.time = time
        heapq.heappush(self._queue, (time, next(self._tickets), call))

    def run_until(self, time: float) -> None:
        """Let everything happen that is due up to ``time``, and let it be ``time`` then."""
        while self._happen(time):
            pass
        self._now = max(self._now, time)

    def run_while(self, condition: Callable[[], bool], *, limit_seconds: float) -> bool:
        """Go on as long as ``condition()`` is true.

        :return: whether it became false; it did not where ``limit_seconds`` went by or nothing was left to happen.
        """
        end = self._now + limit_seconds
        while condition():
            if not self._happen(end):
                self._now = end
                return not condition()
        return True

    def advance(self, seconds: float) -> None:
        """Let time go by, as ``task.Clock`` does."""
        self.run_until(self._now + seconds)

    def _happen(self, end: float) -> bool:
        """Let the next event happen; calls that were moved or cancelled do not count as one.

        :return: whether there was anything in the queue up to ``end``.
        """
        queue, at_once = self._queue, self._at_once
        if at_once and not (queue and queue[0] < at_once[0]):
            time, _, call = at_once.popleft()
        elif queue and queue[0][0] <= end:
            time, _, call = heapq.heappop(queue)
        else:
            return False
        if call.time != time or call.state != "waiting":
            return True
        self._now = time
        self.events += 1
        owner = call.owner
        if owner is None:
            call.happen()
        elif owner.is_dead or owner.is_paused:
            owner.run(call.happen)
        else:  # the same as above, and most of what happens
            call.state = "called"
            call.function(*call.arguments, **call.keywords)
            if self.after_event is not None:
                self.after_event(owner)
        return True


@implementer(IReactorTime)
class NodeClock:
    """The clock of one process, from its start to its death.

    :param world: the time of the world.
    :param name: whose clock it is.
    :param rate: its seconds for each second of the world; 1.01 runs fast by one part in a hundred.
    """

    def __init__(self, world: VirtualClock, *, name: str, rate: float = 1.0) -> None:
        self.world = world
        self.name = name
        self.rate = rate
        self.is_dead = False
        self.is_paused = False
        self._held: deque[Callable[[], None]] = deque()
        self._shown = (0.0, 0.0)

    def seconds(self) -> float:
        """See :class:`IReactorTime`. It goes on while the process is paused, as the machine's does."""
        now = self.world.seconds()
        if now != self._shown[0]:  # it is asked several times in most events
            self._shown = (now, self.own_time(now))
        return self._shown[1]

    def own_time(self, world_time: float) -> float:
        """Return what this clock shows at a time of the world, in whole nanoseconds.

        Without a grain, what comes back after ``callLater(0.1)`` could be a hair less than 0.1 seconds later, and a
        LoopingCall would then wait for that hair, for ever.
        """
        return round(world_time * self.rate, 9)

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> IDelayedCall:  # noqa: A002  # Twisted's name
        """See :class:`IReactorTime`."""
        if delay <= 0:
            return self.world.call_for(self, delay, callable, args, kw)
        due = round(self.seconds() + max(delay, _GRAIN_SECONDS), 9)
        # Rounding may put it a hair into the past of the world, where it would have been due already.
        return self.world.call_for(self, max(0.0, due / self.rate - self.world.seconds()), callable, args, kw)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """See :class:`IReactorTime`."""
        return [
            call
            for call in self.world.getDelayedCalls()
            if isinstance(call, VirtualCall) and call.owner is self and not self.is_dead
        ]

    def run(self, function: Callable[[], None]) -> bool:
        """Let something happen in this process: now, after the pause, or never if it is dead.

        Call it from an event of the world's own, never from one of another process.

        :return: whether it happened now.
        """
        if self.is_dead:
            return False
        if self.is_paused:
            self._held.append(function)
            return False
        function()
        if self.world.after_event is not None:
            self.world.after_event(self)
        return True

    def pause(self) -> None:
        """Stop the process where it stands (SIGSTOP); what is due from now on is held back, in order."""
        self.is_paused = True

    def resume(self) -> None:
        """Go on (SIGCONT): everything held back happens at once, each as an event of its own."""
        self.is_paused = False
        held, self._held = self._held, deque()
        for function in held:
            self.world.call_for(self, 0.0, function, (), {})

    def die(self) -> None:
        """End the process (SIGKILL): nothing that belongs to it happens any more."""
        self.is_dead = True
        self._held.clear()
