"""Who belongs to the cluster: addresses are announced, learners promoted, members changed, and a removal is noticed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from raftkv.config import NodeConfig
from raftkv.interfaces import Identity
from raftkv.membership import Announcer, Membership, Promoter, RemovalWatch
from raftkv.persistence.membership import RemovedNote, store_removed
from raftkv.server.assembly.ground import Ground
from raftkv.server.assembly.heart import Heart
from raftkv.server.assembly.later import Later
from raftkv.server.assembly.surroundings import Surroundings
from raftkv.server.driver import Participant


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """What sees to the cluster's members."""

    announcer: Announcer
    promoter: Promoter
    membership: Membership
    removal: RemovalWatch

    def participants(self) -> tuple[Participant, ...]:
        """Return what lives by the driver's time, in the order of its turns."""
        return (self.announcer, self.promoter, self.membership, self.removal)


def make_members(config: NodeConfig, world: Surroundings, ground: Ground, heart: Heart, later: Later) -> Members:
    """Make what sees to the cluster's members."""
    node, directory, wake = heart.node, heart.directory, heart.driver.wake
    promoter = Promoter(node=node, directory=directory, wake=wake, election_ticks=config.election_ticks)
    membership = Membership(
        identity=ground.identity,
        node=node,
        directory=directory,
        promoter=promoter,
        forwarder=heart.forwarder,
        describe=lambda: later.replica.local_cluster(),
        seconds=world.clock.seconds,
        wake=wake,
        request_timeout_seconds=config.limits.request_timeout_seconds,
        election_ticks=config.election_ticks,
    )
    return Members(
        announcer=Announcer(node=node, directory=directory, wake=wake, settle_ticks=config.election_ticks),
        promoter=promoter,
        membership=membership,
        removal=_make_removal(config, world, ground, heart, later),
    )


def _make_removal(config: NodeConfig, world: Surroundings, ground: Ground, heart: Heart, later: Later) -> RemovalWatch:
    identity, joined = ground.identity, ground.joined
    return RemovalWatch(
        identity=identity,
        node=heart.node,
        directory=heart.directory,
        forwarder=heart.forwarder,
        first_index=joined.configuration_index if joined is not None else 0,
        store=lambda index: ground.write_short(partial(store_removed, world.disk, _removal_note(identity, index))),
        removed=lambda: later.replica.retire(),
        fatal=heart.driver.fail,
        election_ticks=config.election_ticks,
    )


def _removal_note(identity: Identity, index: int) -> RemovedNote:
    return RemovedNote(node_id=identity.node_id, cluster_id=identity.cluster_id, configuration_index=index)
