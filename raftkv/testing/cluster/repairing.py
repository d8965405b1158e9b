"""What a simulated process does whose log is damaged: the repair is the product's, the others' help is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftkv.errors import DamagedLog, StorageError
from raftkv.interfaces import Standing
from raftkv.protocols.rpc import node_calls
from raftkv.server.assembly import assemble_repair
from raftkv.testing.cluster.equipment import surround
from raftkv.testing.cluster.machine import Life, SimulatedNode

if TYPE_CHECKING:
    from raftkv.testing.cluster.cluster import SimulatedCluster


def repair_log(cluster: SimulatedCluster, node: SimulatedNode, life: Life, damage: DamagedLog) -> None:
    """Let a node whose log was damaged on purpose be repaired, and start it then."""
    name = node.name
    cluster.trace.note(f"damaged {name} {damage}")
    cluster.excuses.damaged(name, damage, disk_errors=life.disk_errors)
    world = surround(cluster, node, life)

    def repaired() -> None:
        cluster.trace.note(f"repaired {name}")
        cluster.excuses.repaired(name)
        cluster.clock.callLater(0, _start_again, cluster, node, life)

    try:
        made = assemble_repair(cluster.config(name), world, damage, repaired=repaired)
    except StorageError as error:
        cluster.giving_up.stopped_by(name, error)
        return
    if life.process is None:
        raise ValueError("the repair did not ask for a transport")
    waiting = life.process.key_value = life.process.node = made.repairing.waiting
    life.process.calls = {
        **node_calls(waiting),
        **made.repairing.calls(),
        "standing": lambda _: Standing(identity=made.identity, holds=True),
    }
    life.clock.run(made.repairing.startService)


def _start_again(cluster: SimulatedCluster, node: SimulatedNode, life: Life) -> None:
    if node.life is life:
        cluster.crash(node.name, power_loss=False)
        cluster.start(node.name)
