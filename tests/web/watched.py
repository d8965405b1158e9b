"""Both lanes with the real watches over the store in memory."""

from __future__ import annotations

from typing import Any

from raftkv.errors import RaftKVError
from raftkv.kvstore.commands import pack_batch
from raftkv.raft.messages import Entry, EntryKind
from raftkv.server.watching import Watches, WatchLimits
from tests.web.lanes import Lane, LaneTestCase


class WatchedLaneTestCase(LaneTestCase):
    """A test whose stores have watches.

    :ivar limits: of the watches.
    """

    limits = WatchLimits()

    def setUp(self) -> None:
        super().setUp()
        self.each(self.add_watches)

    def add_watches(self, lane: Lane) -> None:
        """Give a lane's store its watches."""
        key_value = lane.key_value

        def refusal() -> RaftKVError | None:
            return key_value.refusal

        watches = Watches(
            store=lambda: key_value.store,
            barrier=lambda done: key_value.barrier("linearizable", done),
            refusal=refusal,
            clock=lane.clock,
            limits=self.limits,
        )
        key_value.watches = watches
        key_value.watch = watches.open

    def configure(self, **settings: Any) -> None:
        """Start anew with other settings."""
        super().configure(**settings)
        self.each(self.add_watches)

    def write(self, *commands: Any) -> None:
        """Apply commands as one entry on both lanes, and let them tell what they have to tell."""
        for lane in self.lanes:
            store = lane.key_value.store
            index = store.applied_index + 1
            payload = pack_batch(0, 0, commands)
            results = store.apply(index, payload)
            lane.key_value.watches.applied(
                Entry(index=index, term=1, kind=EntryKind.COMMANDS, payload=payload), results
            )
        self.each(lambda lane: lane.clock.advance(0))

    def check_that_nothing_is_left(self) -> None:
        """No watch may outlive its connection."""
        super().check_that_nothing_is_left()
        self.each(lambda lane: self.assertEqual(len(lane.key_value.watches), 0))
