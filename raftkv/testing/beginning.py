"""What a simulated process does that has no data directory yet: the asking is the product's, the way to ask is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from raftkv.errors import StorageError
from raftkv.interfaces import Joined, Standing
from raftkv.membership import Founding, Joining, join_request
from raftkv.persistence.membership import store_joined
from raftkv.protocols.rpc import node_calls
from raftkv.server.origin import identity_to_begin_with
from raftkv.server.waiting import Waiting
from raftkv.testing.transport import SimulatedForwarder

if TYPE_CHECKING:
    from raftkv.testing.cluster import Life, SimulatedCluster, SimulatedNode


class Beginning:
    """One process that asks how to begin, until it knows.

    :raises raftkv.errors.StorageError: the disk fails.
    """

    def __init__(self, cluster: SimulatedCluster, node: SimulatedNode, life: Life) -> None:
        self._cluster = cluster
        self._node = node
        self._life = life
        self._config = cluster.config(node.name)
        self._identity = identity_to_begin_with(
            self._config, node.disk, make_id=lambda: f"{node.random.getrandbits(128):032x}"
        )
        process = life.process = cluster.network.join(self._identity, life.clock)
        waiting = Waiting(node_id=node.name, reason=lambda: "asking", seconds=life.clock.seconds)
        process.key_value = process.node = waiting
        process.calls = {
            **node_calls(waiting),
            **waiting.calls(),
            "standing": lambda _: Standing(identity=self._identity, holds=False),
        }
        self._forwarder = SimulatedForwarder(cluster.network, process)
        self._founding = Founding(
            own=self._identity,
            peers=self._config.initial_peers(),
            ask=self._ask,
            clock=life.clock,
            patience_seconds=3 * self._config.election_timeout_seconds,
            founded=self._found_out,
            rejoin=self._rejoin,
            failed=self._failed,
        )
        life.clock.run(self._founding.startService)

    def _ask(self, peer: str, address: str) -> Deferred[Standing]:
        return self._forwarder.call(peer, "standing", {"asker": self._identity})

    def _rejoin(self) -> None:
        self._cluster.trace.note(f"{self._node.name} rejoins")
        joining = Joining(
            request=join_request(self._config, self._identity.incarnation),
            addresses=lambda: self._founding.addresses,
            forwarder=self._forwarder,
            clock=self._life.clock,
            joined=self._found_out,
            refused=self._failed,
        )
        joining.startService()

    def _found_out(self, joined: Joined) -> None:
        self._cluster.trace.note(f"{self._node.name} begins as {'a founder' if joined.is_founder else 'a learner'}")
        try:
            store_joined(self._node.disk, joined)
        except StorageError as error:
            self._failed(error)
            return
        self._cluster.clock.callLater(0, self._cluster.begun, self._node.name, self._life)

    def _failed(self, error: Exception) -> None:
        self._cluster.giving_up.stopped_by(self._node.name, error)
