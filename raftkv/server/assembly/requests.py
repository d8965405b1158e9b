"""Whoever waits for an answer: writes, reads, those in line for a lock, and watches."""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.config import NodeConfig
from raftkv.server.assembly.heart import Heart
from raftkv.server.assembly.later import Later
from raftkv.server.assembly.surroundings import Surroundings
from raftkv.server.clustertime import ClusterClock
from raftkv.server.driver import Participant
from raftkv.server.fence import Fence
from raftkv.server.freshness import Freshness
from raftkv.server.proposals import Proposals, WriteLimits
from raftkv.server.readiness import CatchingUp
from raftkv.server.reads import ReadLimits, Reads
from raftkv.server.tickets import Tickets
from raftkv.server.watching import Watches, WatchLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What takes requests, but for watches.

    :ivar catching_up: knows whether the node has heard of all that was committed before it started.
    """

    proposals: Proposals
    reads: Reads
    tickets: Tickets
    catching_up: CatchingUp

    def participants(self) -> tuple[Participant, ...]:
        """Return what lives by the driver's time, in the order of its turns."""
        return (self.proposals, self.reads, self.tickets, self.catching_up)


def make_requests(config: NodeConfig, world: Surroundings, heart: Heart) -> Requests:
    """Make what takes requests."""
    proposals = _make_proposals(config, world, heart)
    reads = Reads(
        node=heart.node,
        state_machine=heart.state_machine,
        seconds=world.clock.seconds,
        freshness=Freshness(steady_seconds=world.steady_seconds, drift_bound=config.clock_drift_bound),
        wake=heart.driver.wake,
        limits=_read_limits(config),
        first_context=world.random.getrandbits(48),
    )
    tickets = Tickets(
        store=heart.store,
        submit=proposals.submit,
        barrier=reads.barrier,
        seconds=world.clock.seconds,
        patience_seconds=config.limits.request_timeout_seconds,
    )
    catching_up = CatchingUp(
        node=heart.node,
        barrier=reads.barrier,
        applied_index=heart.applied_index,
        seconds=world.clock.seconds,
    )
    return Requests(proposals=proposals, reads=reads, tickets=tickets, catching_up=catching_up)


def make_watches(config: NodeConfig, world: Surroundings, heart: Heart, fence: Fence, later: Later) -> Watches:
    """Make what tells watchers of changes."""
    return Watches(
        store=heart.store,
        barrier=lambda done: later.replica.barrier("linearizable", done),
        refusal=fence.refusal,
        clock=world.clock,
        limits=WatchLimits(max_watchers=config.limits.max_watchers, stall_seconds=config.limits.watch_stall_seconds),
    )


def _make_proposals(config: NodeConfig, world: Surroundings, heart: Heart) -> Proposals:
    node, directory = heart.node, heart.directory
    return Proposals(
        node=node,
        store=heart.store,
        forwarder=heart.forwarder,
        leader_rpc_addr=lambda: directory.addresses(node.leader).rpc_addr,
        cluster_clock=ClusterClock(
            monotonic=world.clock.seconds,
            wall=world.wall_seconds,
            applied_ms=lambda: heart.state_machine.store.cluster_time_ms,
        ),
        seconds=world.clock.seconds,
        wake=heart.driver.wake,
        limits=_write_limits(config),
    )


def _write_limits(config: NodeConfig) -> WriteLimits:
    limits = config.limits
    return WriteLimits(
        request_timeout_seconds=limits.request_timeout_seconds,
        leader_wait_seconds=limits.leader_wait_seconds,
        max_batch_bytes=limits.max_batch_bytes,
        max_batch_commands=limits.max_batch_commands,
        max_pending_writes=limits.max_pending_writes,
        max_pending_bytes=limits.max_pending_bytes,
        max_sessions=limits.max_sessions,
        max_leases=limits.max_leases,
        max_lock_waiters=limits.max_lock_waiters,
    )


def _read_limits(config: NodeConfig) -> ReadLimits:
    limits = config.limits
    return ReadLimits(
        request_timeout_seconds=limits.request_timeout_seconds,
        leader_wait_seconds=limits.leader_wait_seconds,
        ask_again_seconds=config.election_timeout_seconds,
        max_pending_reads=limits.max_pending_writes,
    )
