"""Simulated watchers: clients that follow the changes of some keys, through whichever node, for a whole story.

A watcher has one stream at a time. When that ends or falls silent it goes on behind the last id that it has, on another
node; what it has heard by then, over all its streams, is judged against the true history
(:mod:`raftkv.testing.watchtruth`). It knows nothing of Raft or of faults.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raftkv.errors import Compacted, NoLeader, Overflow, RaftKVError
from raftkv.kvstore import prefix_end
from raftkv.testing.checkers.violation import Violation
from raftkv.testing.network import Process, SimulatedNetwork
from raftkv.testing.watchtruth import Transcript, WatchTruth
from raftkv.watches import IWatch, WatchEvent, WatchRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherSettings:
    """What the watchers do.

    :ivar watchers: how many there are.
    :ivar patience_seconds: for how long a watcher bears silence, which is more than what it asks progress for.
    :ivar stay_seconds: mean time after which a watcher leaves a node for no reason; 0 for never.
    :ivar window: messages that may be on their way before the node has to wait; 0 for any number.
    :ivar reading_seconds: what a slow reader takes for a message, at the most.
    :ivar away_share: how often a watcher that has left stays away for so long that the history may not wait.
    :ivar break_share: share of the messages with which a connection breaks.
    """

    watchers: int = 3
    patience_seconds: float = 3.0
    stay_seconds: float = 5.0
    window: int = 0
    reading_seconds: float = 0.0
    break_share: float = 0.0
    away_share: float = 0.0


def draw_watchers(chance: random.Random) -> WatcherSettings:
    """Draw what the watchers do, if there are any."""
    return WatcherSettings(
        watchers=chance.choice((0, 2, 4)),
        stay_seconds=chance.choice((0.0, 2.0, 8.0)),
        window=chance.choice((1, 4, 20)),
        reading_seconds=chance.choice((0.0, 0.0, 0.05, 1.0, 5.0)),
        break_share=chance.choice((0.0, 0.0, 0.02, 0.1)),
        away_share=chance.choice((0.0, 0.1, 0.3)),
    )


class Watchers:
    """All watchers of one run.

    :param nodes: where they may ask.
    :param past_is_right: tells whether no state was ever changed on purpose: one that was judges conditions otherwise
        until that is found out, so that its revisions are others, and its past gets around by snapshots.
    :ivar truth: to be told of every entry that some node applies.
    :ivar counts: what became of streams, for the statistics.
    """

    def __init__(
        self,
        *,
        network: SimulatedNetwork,
        nodes: Sequence[str],
        random: random.Random,
        settings: WatcherSettings,
        past_is_right: Callable[[], bool] = lambda: True,
    ) -> None:
        self.network = network
        self.past_is_right = past_is_right
        self.nodes = nodes
        self.random = random
        self.settings = settings
        self.truth = WatchTruth()
        self.counts: Counter[str] = Counter()
        self.heard_revision = 0
        self.is_calm = False
        self.is_stopped = False
        self._watchers = [Watcher(self, f"w{number}") for number in range(settings.watchers)]

    def start(self) -> None:
        """Let them begin, each at a moment of its own."""
        for watcher in self._watchers:
            self.network.clock.callLater(self.random.uniform(0.0, 5.0), watcher.connect)

    def calm_down(self) -> None:
        """Let them read as fast as they can, and stay where they are once they have begun anew."""
        self.is_calm = True
        self.settings = WatcherSettings(watchers=len(self._watchers), stay_seconds=0.0)
        for watcher in self._watchers:
            watcher.leave("left")

    @property
    def know_everything(self) -> bool:
        """Whether everybody has been told everything that was ever applied."""
        return all(watcher.transcript.told_revision >= self.truth.revision for watcher in self._watchers)

    def stop(self) -> None:
        """Let them hang up for good."""
        self.is_stopped = True
        for watcher in self._watchers:
            watcher.leave("stopped")

    def describe(self) -> str:
        """Say how far each of them is, for a failure."""
        return f"revision {self.truth.revision}: " + ", ".join(map(str, self._watchers))


class Watcher:
    """One client.

    :ivar transcript: what it has heard, over all its streams.
    """

    def __init__(self, watchers: Watchers, name: str) -> None:
        chance = watchers.random
        self.name = name
        self._watchers = watchers
        self._stream: Stream | None = None
        self._heard_at = 0.0
        self._tries = 0
        self._last_id: int | None = None
        self._first: int | None = None  # that it asked for when it had no id
        edges = ((b"k0", b"k0\0"), (b"k1", b"k1\0"), (b"k", prefix_end(b"k") or b""), (b"k1", b"k4"), (b"", b""))
        self._span = chance.choice(edges)
        self._kinds = chance.choice(((True, True), (True, True), (True, False), (False, True)))
        self._progress_seconds = chance.choice((0.2, 1.0))
        self._is_progress_regular = chance.random() < 0.5
        self.transcript = Transcript(self.name, self._request(None), watchers.truth)

    def __str__(self) -> str:
        where = "nowhere" if self._stream is None else f"on {self._stream.node}"
        return f"{self.name} {where} at {self.transcript.told_revision}"

    def _request(self, first: int | None, *, resumes: bool = False) -> WatchRequest:
        return WatchRequest(
            start=self._span[0],
            end=self._span[1],
            from_revision=first,
            resumes=resumes,
            puts=self._kinds[0],
            deletes=self._kinds[1],
            progress_seconds=self._progress_seconds,
            is_progress_regular=self._is_progress_regular,
        )

    # -- going from node to node -------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Begin a stream on some node: behind the last id, or where a newcomer begins."""
        watchers = self._watchers
        if watchers.is_stopped or self._stream is not None:
            return
        chance, truth = watchers.random, watchers.truth
        if self._last_id is not None:
            # As a browser does, whose every request bears what the first one asked for.
            request = self._request(self._last_id + 1, resumes=self._last_id + 1 != self._first)
        elif chance.random() < 0.5:
            self._first = None
            request = self._request(None)
            self.transcript.asked_now(at_least=watchers.heard_revision)
        else:
            near = truth.compact_revision if chance.random() < 0.3 else truth.revision
            self._first = max(1, near + chance.choice((-40, -10, -1, 0, 1, 5)))
            request = self._request(self._first)
            self.transcript.asked_from(self._first)
        self._tries += 1
        # Once all is calm one after the other, for there may be but one that answers.
        node = watchers.nodes[self._tries % len(watchers.nodes)] if watchers.is_calm else chance.choice(watchers.nodes)
        stream = self._stream = Stream(watchers, self, node, request)
        self._heard_at = watchers.network.clock.seconds()
        stream.depart()
        self._look_again(stream)
        if watchers.settings.stay_seconds:
            stay = chance.expovariate(1 / watchers.settings.stay_seconds)
            watchers.network.clock.callLater(stay, self._leave_if, stream, "left")

    def _look_again(self, stream: Stream) -> None:
        clock, settings = self._watchers.network.clock, self._watchers.settings
        patience = settings.patience_seconds + 3 * settings.reading_seconds

        def look() -> None:
            if self._stream is not stream:
                return
            if clock.seconds() - self._heard_at > patience:
                self.leave("fell silent")
            else:
                clock.callLater(0.5, look)

        clock.callLater(patience, look)

    def _leave_if(self, stream: Stream, why: str) -> None:
        if self._stream is stream and self._watchers.settings.stay_seconds:
            self.leave(why)

    def leave(self, why: str) -> None:
        """Hang up, and go elsewhere after a moment."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        self._watchers.counts[f"watches: {why}"] += 1
        stream.hang_up()
        self.transcript.stream_over()
        if not self._watchers.is_stopped:
            chance, settings = self._watchers.random, self._watchers.settings
            is_away = settings.away_share and chance.random() < settings.away_share
            pause = chance.uniform(3.0, 15.0) if is_away else chance.uniform(0.01, 0.5)
            self._watchers.network.clock.callLater(pause, self.connect)

    # -- from the stream ---------------------------------------------------------------------------------------------

    def hear(self, stream: Stream, kind: str, what: Any) -> None:
        """Something has arrived.

        :raises Violation: it is not what should have.
        """
        if self._stream is not stream:
            return
        self._heard_at = self._watchers.network.clock.seconds()
        try:
            self._judge(kind, what)
        except Violation:
            if self._watchers.past_is_right():
                raise
            self.leave("told of a wrong past")

    def _judge(self, kind: str, what: Any) -> None:
        if kind == "begun":
            self._last_id = self.transcript.begun(what)
        elif kind == "progress":
            self._last_id = self.transcript.progress(what)
        elif kind == "events":
            events, is_whole = what
            told = self.transcript.changed(events, is_whole=is_whole)
            if told is not None:
                self._last_id = told
        else:
            self._hear_end(what)
        if kind == "events" or self._first is None:  # else it may know no more than what it asked for
            self._watchers.heard_revision = max(self._watchers.heard_revision, self._last_id or 0)

    def _hear_end(self, error: RaftKVError) -> None:
        self.transcript.ended(error)
        if isinstance(error, Compacted):
            # As a client does that reads the range anew: it goes on with what it can, and its account begins anew.
            self._last_id = None
        self.leave(f"ended, {error.code}" if isinstance(error, (Compacted, Overflow)) else "refused or interrupted")


class Stream:
    """One stream, from a node to a watcher: it takes its time, and breaks with the network or with the node."""

    def __init__(self, watchers: Watchers, watcher: Watcher, node: str, request: WatchRequest) -> None:
        self.node = node
        self._watchers = watchers
        self._network = watchers.network
        self._chance = watchers.random
        self._watcher = watcher
        self._request = request
        self._process: Process | None = None
        self._watch: IWatch | None = None
        self._ticket = 0
        self._is_cut = False
        self._under_way: deque[tuple[str, Any]] = deque()  # told by the node, and not heard yet
        self._has_waiting = False
        self._read_until = 0.0

    # -- the way there -----------------------------------------------------------------------------------------------

    def depart(self) -> None:
        """Ask the node."""
        if self._network.is_blocked(self._watcher.name, self.node):
            self._lose()
        else:
            self._network.clock.callLater(self._delay(), self._arrive)

    def _delay(self) -> float:
        settings = self._network.settings
        return self._chance.uniform(settings.min_delay_seconds, settings.max_delay_seconds)

    def _notice_delay(self) -> float:
        return self._chance.uniform(0.0, self._network.settings.notice_seconds)

    def _arrive(self) -> None:
        process = self._network.processes.get(self.node)
        if self._is_cut:
            return
        if process is None or process.key_value is None or self._network.is_blocked(self._watcher.name, self.node):
            self._lose()
            return
        self._process = process
        self._ticket = self._network.next_ticket()
        process.open_calls[self._ticket] = (self._watcher.name, self._broken)
        self._network.trace.note(f"{self._watcher.name} watches on {self.node}")
        process.clock.run(self._begin)

    def _begin(self) -> None:
        if self._process is None or self._process.key_value is None or self._is_cut:
            return
        self._watch = self._process.key_value.watch(self._request, self)
        self._watch.begin()

    def _broken(self) -> None:
        """The connection is gone: both ends notice, sooner or later."""
        self._lose()

    def _lose(self) -> None:
        self._is_cut = True
        clock = self._network.clock
        clock.callLater(self._notice_delay(), self._watcher.hear, self, "ended", NoLeader())
        clock.callLater(self._notice_delay(), self._cancel)

    def hang_up(self) -> None:
        """The watcher wants nothing more; the node hears of it after a while."""
        self._is_cut = True
        self._network.clock.callLater(self._notice_delay(), self._cancel)

    def _cancel(self) -> None:
        process, watch = self._process, self._watch
        if process is None:
            return
        process.open_calls.pop(self._ticket, None)
        if watch is not None:
            process.clock.run(watch.cancel)

    # -- the way back: what the node tells (see raftkv.watches.WatchReceiver) ----------------------------------------

    def begun(self, revision: int) -> None:
        """See :class:`raftkv.watches.WatchReceiver`."""
        self._send("begun", revision)

    def changed(self, events: Sequence[WatchEvent], *, is_whole: bool) -> bool:
        """See :class:`raftkv.watches.WatchReceiver`."""
        self._send("events", ([(event.revision, event.change) for event in events], is_whole))
        window = self._watchers.settings.window
        self._has_waiting = bool(window) and len(self._under_way) >= window
        return not self._has_waiting

    def progress(self, revision: int) -> None:
        """See :class:`raftkv.watches.WatchReceiver`."""
        self._send("progress", revision)

    def ended(self, error: RaftKVError) -> None:
        """See :class:`raftkv.watches.WatchReceiver`."""
        self._send("ended", error)

    def _send(self, kind: str, what: Any) -> None:
        if self._is_cut:
            return
        breaks = self._watchers.settings.break_share
        if self._network.is_blocked(self.node, self._watcher.name) or (breaks and self._chance.random() < breaks):
            self._lose()
            return
        now = self._network.clock.seconds()
        reading = self._watchers.settings.reading_seconds
        pause = self._chance.uniform(0.0, reading) if reading and kind == "events" else 0.0
        self._read_until = max(now + self._delay(), self._read_until) + pause
        # A stream keeps its order: two that are due at one moment may change places in the arithmetic of moments.
        self._under_way.append((kind, what))
        self._network.clock.callLater(self._read_until - now, self._deliver)

    def _deliver(self) -> None:
        kind, what = self._under_way.popleft()
        if self._is_cut:
            return
        self._network.trace.note(f"{self._watcher.name} hears {kind} {_in_words(kind, what)}")
        self._watcher.hear(self, kind, what)
        if self._has_waiting and self._process is not None and self._watch is not None:
            self._has_waiting = False
            self._process.clock.run(self._watch.go_on)


def _in_words(kind: str, what: Any) -> object:
    if kind == "ended":
        return what.code
    return f"{what[0][0][0]} {[change.key for _, change in what[0]]}" if kind == "events" else what
