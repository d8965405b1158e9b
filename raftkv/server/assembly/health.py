"""What looks after a node's disk and state: room, a state that is found to be wrong, and a right one in its place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from raftkv.config import NodeConfig
from raftkv.persistence.fence import load_fence, remove_fence, store_fence
from raftkv.server.assembly.ground import Ground
from raftkv.server.assembly.heart import Heart
from raftkv.server.assembly.later import Later
from raftkv.server.assembly.surroundings import Surroundings
from raftkv.server.diskspace import SpaceWatch, look
from raftkv.server.driver import Participant
from raftkv.server.fence import Fence
from raftkv.server.proposals import Proposals
from raftkv.server.resync import Resync


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What looks after disk and state.

    :ivar fence: closes a node whose state differs from the others'; ``resync`` fetches it a right one.
    """

    space: SpaceWatch
    fence: Fence
    resync: Resync

    def participants(self) -> tuple[Participant, ...]:
        """Return what lives by the driver's time, in the order of its turns."""
        return (self.space, self.fence, self.resync)


def make_health(
    config: NodeConfig, world: Surroundings, ground: Ground, heart: Heart, proposals: Proposals, later: Later
) -> Health:
    """Make what looks after disk and state."""
    fence = later.fence = _make_fence(config, world, ground, heart, proposals, later)
    resync = later.resync = Resync(
        identity=ground.identity,
        node=heart.node,
        fence=fence,
        directory=heart.directory,
        forwarder=heart.forwarder,
        snapshotter=heart.snapshotter,
        send_snapshot=heart.transport.send_snapshot,
        rebuild=heart.state_machine.rebuild,
        wake=heart.driver.wake,
        checkpoint=proposals.checkpoint,
        fatal=heart.driver.fail,
        election_ticks=config.election_ticks,
    )
    return Health(space=_make_space_watch(config, world, ground, heart), fence=fence, resync=resync)


def _make_space_watch(config: NodeConfig, world: Surroundings, ground: Ground, heart: Heart) -> SpaceWatch:
    watch = SpaceWatch(
        node=heart.node,
        calls=ground.calls,
        look=partial(look, world.disk, ground.storage, ground.reserve),
        log_bytes=ground.storage.room_bytes,
        reserve=ground.reserve,
        segment_bytes=world.log_settings.segment_bytes,
        batch_bytes=world.log_settings.max_batch_bytes,
        others_write=lambda: heart.snapshotter.is_busy,
        others_bytes=lambda: heart.snapshotter.expected_bytes,
        snapshot_lacks_room=lambda: heart.snapshotter.lacked_room,
        relieve=heart.snapshotter.relieve,
        wake=heart.driver.wake,
        fatal=heart.driver.fail,
        election_ticks=config.election_ticks,
    )
    watch.begin()
    return watch


def _make_fence(
    config: NodeConfig, world: Surroundings, ground: Ground, heart: Heart, proposals: Proposals, later: Later
) -> Fence:
    snapshot = ground.recovered.snapshot
    return Fence(
        identity=ground.identity,
        node=heart.node,
        directory=heart.directory,
        forwarder=heart.forwarder,
        applied_index=heart.applied_index,
        interrupt=lambda reason: later.replica.interrupt(reason),
        store=lambda index: ground.write_short(partial(store_fence, world.disk, index)),
        erase=lambda: ground.calls.run(partial(remove_fence, world.disk)),
        checkpoint=proposals.checkpoint,
        wake=heart.driver.wake,
        fatal=heart.driver.fail,
        election_ticks=config.election_ticks,
        fenced_index=load_fence(world.disk),
        recovered_index=snapshot.index if snapshot is not None else 0,
    )
