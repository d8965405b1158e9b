"""A node's store and its watches without the rest of the node, and readers that check what they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import Clock

from raftkv.errors import Compacted, Overflow, RaftKVError
from raftkv.kvstore import Store, prefix_end
from raftkv.kvstore.commands import COMPACT, pack_batch
from raftkv.kvstore.views import Change
from raftkv.raft.messages import Entry, EntryKind
from raftkv.server.watching import Watches, WatchLimits
from raftkv.server.watching.watch import Watch
from raftkv.watches import WatchEvent, WatchRequest
from tests.kvstore.helpers import restore, snapshot

Told = tuple[int, list[Change]]  # a revision and its changes


def on_key(key: bytes, **more: Any) -> WatchRequest:
    """Return a request for one key."""
    return WatchRequest(start=key, end=key + b"\0", **more)


def on_prefix(prefix: bytes, **more: Any) -> WatchRequest:
    """Return a request for a prefix."""
    return WatchRequest(start=prefix, end=prefix_end(prefix) or b"", **more)


class Reader:
    """Is told, and complains of whatever can be seen from here alone.

    :ivar room: how many more calls it takes before it says that it has none.
    :ivar told: whole revisions, in order.
    :ivar part: the beginning of the revision that is being told.
    :ivar up_to: what progress has said.
    :ivar error: with which it ended.
    """

    def __init__(self, request: WatchRequest) -> None:
        self.request = request
        self.room = 2**62
        self.begun_at: int | None = None
        self.told: list[Told] = []
        self.part: Told | None = None
        self.up_to = -1
        self.progresses: list[int] = []
        self.error: RaftKVError | None = None
        self.calls = 0
        self.watch: Watch
        self.on_told: Callable[[], object] = lambda: None

    def begun(self, revision: int) -> None:
        """See :class:`raftkv.watches.WatchReceiver`."""
        assert self.begun_at is None
        assert self.error is None
        self.begun_at = self.up_to = revision

    def changed(self, events: Sequence[WatchEvent], *, is_whole: bool) -> bool:
        """See :class:`raftkv.watches.WatchReceiver`."""
        self._expect()
        assert events
        assert self.room > 0
        revision = events[0].revision
        assert all(event.revision == revision for event in events)
        assert revision > self.up_to, f"{revision} after {self.up_to} was told"
        changes = [event.change for event in events]
        if self.part is not None:
            assert self.part[0] == revision, f"{revision} in the middle of {self.part[0]}"
            changes = [*self.part[1], *changes]
        if is_whole:
            self.told.append((revision, changes))
            self.part, self.up_to = None, revision
        else:
            self.part = (revision, changes)
        assert self.watch.told_revision == (revision if is_whole else revision - 1)
        self.room -= 1
        self.calls += 1
        self.on_told()
        return self.room > 0

    def progress(self, revision: int) -> None:
        """See :class:`raftkv.watches.WatchReceiver`."""
        self._expect()
        assert self.part is None, "progress in the middle of a revision"
        assert revision >= self.up_to
        self.up_to = revision
        self.progresses.append(revision)

    def ended(self, error: RaftKVError) -> None:
        """See :class:`raftkv.watches.WatchReceiver`."""
        assert self.error is None
        self.error = error

    def _expect(self) -> None:
        assert self.begun_at is not None, "told before it began"
        assert self.error is None, "told after its end"

    def give_room(self, calls: int = 2**62) -> None:
        """Take that many calls more."""
        had_room, self.room = self.room > 0, self.room + calls
        if not had_room:
            self.watch.go_on()

    def keys(self) -> list[tuple[int, list[bytes]]]:
        """Return what it was told, without records."""
        return [(revision, [change.key for change in changes]) for revision, changes in self.told]

    def check(self, truth: Store) -> None:
        """Compare what it was told with the whole history."""
        if self.begun_at is None:
            assert not self.told
            return
        expected = matching(truth, self.request, self.begun_at, self.up_to)
        assert self.told == expected, f"told {self.told}, but there is {expected}"
        if self.part is not None:
            (whole,) = matching(truth, self.request, self.part[0] - 1, self.part[0])
            assert whole[1][: len(self.part[1])] == self.part[1]
            assert len(self.part[1]) < len(whole[1]), "all of a revision told as a part"
        if isinstance(self.error, Overflow):
            assert matching(truth, self.request, self.up_to, self.error.revision) == []
        if isinstance(self.error, Compacted):
            assert self.up_to + 1 < self.error.compact_revision


def matching(truth: Store, request: WatchRequest, above: int, up_to: int) -> list[Told]:
    """Return what a request asks for of a range of revisions, found the plain way."""
    found = []
    for revision, changes in truth.changes(above + 1, max(0, up_to - above)):
        wanted = [
            change
            for change in changes
            if request.start <= change.key
            and (not request.end or change.key < request.end)
            and (request.puts if change.record is not None else request.deletes)
        ]
        if wanted:
            found.append((revision, wanted))
    return found


class World:
    """One node that applies what it is given, and a store that never forgets, as the truth.

    :ivar truth: applies everything at once, but for compactions.
    """

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.store = Store()
        self.truth = Store()
        self.compacting = Store()  # as every node of the cluster will be
        self.entries: list[bytes] = []
        self.refusal: RaftKVError | None = None
        self.barriers: list[tuple[int, Callable[[RaftKVError | None], None]]] = []
        self.readers: list[Reader] = []
        self.watches = Watches(
            store=lambda: self.store,
            barrier=self._barrier,
            refusal=lambda: self.refusal,
            clock=self.clock,
            limits=WatchLimits(**limits),
        )

    def _barrier(self, done: Callable[[RaftKVError | None], None]) -> None:
        if self.store.applied_index >= len(self.entries):
            done(None)
        else:
            self.barriers.append((len(self.entries), done))

    # -- the log -----------------------------------------------------------------------------------------------------

    def propose(self, *commands: Any) -> None:
        """Commit an entry, which the node does not have yet."""
        self.entries.append(pack_batch(0, 0, commands))
        index = len(self.entries)
        kept = [command for command in commands if command[0] != COMPACT]
        self.truth.apply(index, pack_batch(0, 0, kept))
        self.compacting.apply(index, self.entries[-1])

    def apply(self, count: int = 2**62) -> None:
        """Let the node apply some of what it lacks."""
        applied = self.store.applied_index
        for index in range(applied + 1, min(applied + count, len(self.entries)) + 1):
            results = self.store.apply(index, self.entries[index - 1])
            self.watches.applied(Entry(index=index, term=1, kind=EntryKind.COMMANDS, payload=b""), results)
        self._serve()

    def write(self, *commands: Any) -> int:
        """Commit an entry and apply it; return the revision behind it."""
        self.propose(*commands)
        self.apply()
        return self.store.revision

    def install(self, chunks: list[bytes]) -> None:
        """Let a snapshot take the place of the node's state."""
        self.store = restore(chunks)
        self.watches.restored(self.store.applied_index)
        self._serve()

    def install_newest(self) -> None:
        """Let the node skip what it lacks."""
        self.install(snapshot(self.compacting))

    def _serve(self) -> None:
        due = [done for index, done in self.barriers if index <= self.store.applied_index]
        self.barriers = [(index, done) for index, done in self.barriers if index > self.store.applied_index]
        for done in due:
            done(None)

    # -- readers -----------------------------------------------------------------------------------------------------

    def watch(self, request: WatchRequest, room: int = 2**62) -> Reader:
        """Begin a watch."""
        reader = Reader(request)
        reader.room = room
        reader.watch = self.watches.open(request, reader)
        self.readers.append(reader)
        reader.watch.begin()
        return reader

    def turn(self) -> None:
        """Let the reactor turn once: what comes to be due meanwhile has to wait."""
        due = [call for call in self.clock.getDelayedCalls() if call.getTime() <= self.clock.seconds()]
        for call in due:
            if call.active():
                self.clock.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def wait(self, seconds: float) -> None:
        """Let time go by in which the reactor does nothing."""
        self.clock.rightNow += seconds

    def settle(self) -> None:
        """Let the reactor turn until nothing is left to do at once."""
        for _ in range(100_000):
            if not any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
                return
            self.turn()
        raise AssertionError("there is no end to it")

    def check(self) -> None:
        """Compare everything that was told with the truth."""
        for reader in self.readers:
            reader.check(self.truth)
