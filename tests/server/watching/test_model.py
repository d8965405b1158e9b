"""Watches against a store that never forgets: whatever happens, nothing is lost, told twice, or in the wrong order."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import Compacted, FutureRevision, Overflow
from raftkv.kvstore.commands import compact, delete, delete_range, lock, put, transaction
from raftkv.server.watching import catchup, fresh, heartbeats, hub
from raftkv.watches import WatchRequest
from tests.kvstore.helpers import snapshot
from tests.server.watching.support import Reader, World, on_key, on_prefix

KEYS = st.sampled_from([b"a", b"a/1", b"a/2", b"a/2/x", b"b", b"b/1", b"c"])
EDGES = st.sampled_from([b"", b"a", b"a/", b"a/1", b"a0", b"b", b"b/"])
WRITES = (
    st.builds(put, KEYS, st.binary(max_size=2))
    | st.builds(delete, KEYS)
    | st.builds(delete_range, EDGES, EDGES)
    | st.builds(
        lambda keys: transaction([], [put(key, b"") for key in keys], []), st.lists(KEYS, unique=True, min_size=2)
    )
    | st.just(lock(b"l", ttl_ms=1000))
)
SPANS = (
    st.builds(on_key, KEYS)
    | st.builds(on_prefix, EDGES)
    | st.builds(lambda s, e: WatchRequest(start=s, end=e), EDGES, EDGES)
)
FEW = st.integers(1, 4)


class WatchMachine(RuleBasedStateMachine):
    """One node that is now and then behind, or gets its state as a whole, and readers that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(max_watchers=1000, stall_seconds=5.0)
        self.snapshots: list[list[bytes]] = []

    # -- the cluster -------------------------------------------------------------------------------------------------

    @rule(commands=st.lists(WRITES, min_size=1, max_size=5), is_applied=st.booleans())
    def write(self, commands: list[Any], is_applied: bool) -> None:
        self.world.propose(*commands)
        if is_applied:
            self.world.apply()

    @rule(count=FEW)
    def apply(self, count: int) -> None:
        self.world.apply(count)

    @precondition(lambda self: self.world.truth.revision > 0)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        newest = self.world.truth.revision
        self.world.propose(compact(data.draw(st.integers(max(1, newest - 5), newest))))

    @rule()
    def install_newest(self) -> None:
        if self.world.store.applied_index < len(self.world.entries):
            self.world.install_newest()

    @rule()
    def take_snapshot(self) -> None:
        self.snapshots.append(snapshot(self.world.store))

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def rebuild(self, data: st.DataObject) -> None:
        self.world.install(self.snapshots.pop(data.draw(st.integers(0, len(self.snapshots) - 1))))

    # -- the readers -------------------------------------------------------------------------------------------------

    @rule(
        span=SPANS,
        back=st.none() | st.integers(-3, 12),
        resumes=st.booleans(),
        kinds=st.sampled_from([(True, True), (True, True), (True, False), (False, True)]),
        room=st.sampled_from([1, 2, 2**62]),
        progress=st.sampled_from([(10.0, False), (0.3, False), (0.3, True)]),
    )
    def watch(
        self,
        span: WatchRequest,
        back: int | None,
        resumes: bool,
        kinds: tuple[bool, bool],
        room: int,
        progress: tuple[float, bool],
    ) -> None:
        first = None if back is None else max(1, self.world.truth.revision + 1 - back)
        request = WatchRequest(
            start=span.start,
            end=span.end,
            from_revision=first,
            resumes=resumes,
            puts=kinds[0],
            deletes=kinds[1],
            progress_seconds=progress[0],
            is_progress_regular=progress[1],
        )
        reader = self.world.watch(request, room=room)
        if first is None:
            expected = self.world.truth.revision
            assert reader.begun_at in (None, expected), f"begun behind {reader.begun_at} rather than {expected}"

    def _draw(self, data: st.DataObject) -> Reader:
        return data.draw(st.sampled_from(self.world.readers))

    @precondition(lambda self: self.world.readers)
    @rule(data=st.data(), calls=st.sampled_from([1, 2, 2**62]))
    def read(self, data: st.DataObject, calls: int) -> None:
        self._draw(data).give_room(calls)

    @precondition(lambda self: self.world.readers)
    @rule(data=st.data())
    def ask_progress(self, data: st.DataObject) -> None:
        self._draw(data).watch.ask_progress()

    @precondition(lambda self: self.world.readers)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self._draw(data).watch.cancel()

    @precondition(lambda self: self.world.readers)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """A reader goes on behind what it was told, as another watch."""
        old = self._draw(data)
        if old.begun_at is None:
            return
        old.watch.cancel()
        up_to = old.error.revision if isinstance(old.error, Overflow) else old.up_to
        request = WatchRequest(start=old.request.start, end=old.request.end, from_revision=up_to + 1, resumes=True)
        reader = self.world.watch(request)
        assert not isinstance(reader.error, FutureRevision) or up_to > self.world.truth.revision

    # -- time --------------------------------------------------------------------------------------------------------

    @rule(turns=FEW)
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.world.turn()

    @rule(seconds=st.sampled_from([0.1, 0.5, 3.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @invariant()
    def what_was_told_is_true(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        """Whoever is left and reads is told everything that there is."""
        world = self.world
        world.apply()
        for reader in world.readers:
            reader.give_room()
        world.settle()
        for reader in world.readers:
            reader.watch.ask_progress()
        world.check()
        open_ones = [reader for reader in world.readers if reader.error is None and reader.watch.state.value != "ended"]
        for reader in open_ones:
            assert reader.begun_at is not None
            assert reader.up_to >= world.truth.revision, f"told up to {reader.up_to} of {world.truth.revision}"
        for reader in world.readers:
            if isinstance(reader.error, Compacted) and reader.begun_at is not None:
                assert reader.up_to + 1 < world.store.compact_revision
            reader.watch.cancel()
        assert len(world.watches) == 0
        assert world.clock.getDelayedCalls() == []
        assert world.watches._fresh.count == 0


class ModelTests(SynchronousTestCase):
    """Small bounds, so that a handful of changes is a lot."""

    def setUp(self) -> None:
        for module, name, value in (
            (catchup, "SLICE_CHANGES", 3),
            (catchup, "SLICE_MATCHES", 4),
            (catchup, "TURN_CALLS", 2),
            (fresh, "TURN_CALLS", 2),
            (heartbeats, "LOOKS_AT_ONCE", 2),
            (hub, "MANY_CHANGES", 3),
            (hub, "MAX_PENDING", 6),
            (hub, "NEAR_REVISIONS", 4),
        ):
            self.patch(module, name, value)

    def test_model(self) -> None:
        """B53 to B60: complete, in order, once, whole revisions, progress not ahead, compaction told; and it ends."""
        run_state_machine_as_test(
            WatchMachine,
            settings=settings(
                max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
