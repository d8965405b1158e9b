"""The table of contents of a node: what it consists of, in the order in which each part can be made."""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.config import NodeConfig
from raftkv.interfaces import Identity, IPeerTransport
from raftkv.server.assembly.chores import make_chores
from raftkv.server.assembly.ground import Ground, recover_ground
from raftkv.server.assembly.health import Health, make_health
from raftkv.server.assembly.heart import Heart, make_heart
from raftkv.server.assembly.later import Later
from raftkv.server.assembly.members import Members, make_members
from raftkv.server.assembly.requests import Requests, make_requests, make_watches
from raftkv.server.assembly.surroundings import Surroundings
from raftkv.server.backups import Backups
from raftkv.server.fence import Fence
from raftkv.server.repairing import EntriesSource
from raftkv.server.replica import Replica
from raftkv.server.watching import Watches


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A node that can be started, and what its interfaces need of it."""

    replica: Replica
    identity: Identity
    transport: IPeerTransport


def assemble(config: NodeConfig, world: Surroundings) -> Assembled:
    """Recover a node from its data directory, or make a new one, and put it together. Blocks; starts nothing.

    :raises raftkv.errors.ConfigurationError: the directory belongs to another node or cluster.
    :raises raftkv.errors.DamagedLog: the log lacks something; :func:`~raftkv.server.assembly.assemble_repair` may help.
    :raises raftkv.errors.CorruptData: what is on the disk cannot be trusted.
    """
    later = Later()
    ground = recover_ground(config, world)
    heart = make_heart(config, world, ground, later)
    requests = make_requests(config, world, heart)
    members = make_members(config, world, ground, heart, later)
    health = make_health(config, world, ground, heart, requests.proposals, later)
    watches = make_watches(config, world, heart, health.fence, later)
    chores = make_chores(config, heart, requests.proposals)
    for participant in (*requests.participants(), *members.participants(), *health.participants(), *chores):
        heart.driver.add_participant(participant)
    _connect(heart, requests, health.fence, watches)
    replica = later.replica = _make_replica(
        config,
        world,
        ground=ground,
        heart=heart,
        requests=requests,
        members=members,
        health=health,
        watches=watches,
        backups=_make_backups(ground, heart, health.fence, later),
    )
    return Assembled(replica=replica, identity=ground.identity, transport=heart.transport)


def _connect(heart: Heart, requests: Requests, fence: Fence, watches: Watches) -> None:
    """Let those who wait hear of what the driver and the state machine have done; in this order."""
    driver, state_machine, tidy = heart.driver, heart.state_machine, heart.snapshotter.tidy
    proposals, tickets = requests.proposals, requests.tickets
    driver.deliver_reads_to(requests.reads.resolved)
    for applied in (proposals.applied, watches.applied, tickets.applied):
        state_machine.on_applied(applied)
    for restored in (proposals.restored, tickets.restored, watches.restored, lambda index: tidy(), fence.replaced):
        state_machine.on_restored(restored)
    state_machine.when_caught_up(driver.wake)
    state_machine.on_noted(fence.note)
    fence.when_opened(tidy)


def _make_backups(ground: Ground, heart: Heart, fence: Fence, later: Later) -> Backups:
    return Backups(
        node=heart.node,
        store=heart.store,
        barrier=lambda consistency, done: later.replica.barrier(consistency, done),
        snapshotter=heart.snapshotter,
        directory=ground.snapshots,
        calls=ground.calls,
        may_give=later.is_trusted,
        times_doubted=lambda: fence.closed,
        archiver=heart.archiver,
    )


def _make_replica(
    config: NodeConfig,
    world: Surroundings,
    *,
    ground: Ground,
    heart: Heart,
    requests: Requests,
    members: Members,
    health: Health,
    watches: Watches,
    backups: Backups,
) -> Replica:
    removal = members.removal
    return Replica(
        identity=ground.identity,
        clock=world.clock,
        node=heart.node,
        driver=heart.driver,
        state_machine=heart.state_machine,
        proposals=requests.proposals,
        reads=requests.reads,
        tickets=requests.tickets,
        snapshotter=heart.snapshotter,
        directory=heart.directory,
        membership=members.membership,
        removal=removal,
        fence=health.fence,
        resync=health.resync,
        watches=watches,
        forwarder=heart.forwarder,
        backups=backups,
        archiver=heart.archiver,
        catching_up=requests.catching_up,
        entries=EntriesSource(node=heart.node, storage=ground.storage, is_removed=lambda: removal.is_removed),
        recovered_snapshot=ground.recovered.snapshot,
        tick_interval_seconds=config.tick_interval_seconds,
        election_timeout_seconds=config.election_timeout_seconds,
        stop_wait_seconds=config.limits.request_timeout_seconds,
    )
