"""What stands in for a node while its log is made whole, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raftkv.config import NodeConfig
from raftkv.errors import DamagedLog
from raftkv.interfaces import Identity, IPeerTransport
from raftkv.persistence.repair import LogRepair
from raftkv.persistence.reserve import Reserve
from raftkv.persistence.segment import log_identity
from raftkv.raft.configuration import Configuration
from raftkv.server.assembly.ground import open_snapshots
from raftkv.server.assembly.surroundings import Surroundings
from raftkv.server.origin import identity_of, initial_configuration, joined_cluster, open_origin
from raftkv.server.repairing import NoSnapshots, Repairing


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembledRepair:
    """What stands in for a node while its log is made whole, and what its interfaces need of it."""

    repairing: Repairing
    identity: Identity
    transport: IPeerTransport


def assemble_repair(
    config: NodeConfig, world: Surroundings, damage: DamagedLog, *, repaired: Callable[[], None]
) -> AssembledRepair:
    """Put together what makes a damaged log whole, with the help of the other members. Blocks; starts nothing.

    :param damage: why :func:`~raftkv.server.assembly.assemble` has refused.
    :param repaired: called once, when it can be tried again.
    :raises raftkv.errors.DamagedLog: there is nobody else, and something is missing.
    :raises raftkv.errors.CorruptData: more than the log is damaged.
    """
    joined = joined_cluster(world.disk)
    meta = open_origin(config, joined, world.disk, make_id=world.make_id, settings=world.log_settings)
    snapshots = open_snapshots(world, meta)
    newest = snapshots.newest_meta()
    Reserve(world.disk, size_bytes=config.disk_reserve_bytes).release()  # the log is written anew, and needs it
    repair = LogRepair(
        world.disk,
        log_identity(meta.log_cluster_id or meta.cluster_id, meta.log_incarnation or meta.incarnation),
        snapshot=newest,
        settings=world.log_settings,
    )
    known = [initial_configuration(config, joined)]
    known += [newest.configuration] if newest is not None else []
    known += [Configuration.decode(entry.payload) for entry in repair.configurations()]
    others = {name for configuration in known for name in configuration.members} - {config.node_id}
    is_alone = known[-1].voters == {config.node_id}
    if (is_alone and repair.end_is_lost) or (not others and repair.missing()):
        raise damage
    identity = identity_of(config, meta.cluster_id, meta.incarnation)
    nothing = NoSnapshots()
    transport = world.transport(identity, nothing, nothing, lambda: repair.term)
    repairing = Repairing(
        repair=repair,
        node_id=config.node_id,
        known=known,
        transport=transport,
        forwarder=world.forwarder(identity),
        clock=world.clock,
        repaired=repaired,
        fatal=world.fatal,
    )
    return AssembledRepair(repairing=repairing, identity=identity, transport=transport)
