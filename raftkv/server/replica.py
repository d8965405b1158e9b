"""One node of the cluster as the interfaces and operators see it: the façade over driver, state machine and waiters.

It adds the life cycle (a start in order, a stop that hands leadership over) and the answers to "how are you".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from raftkv import __version__
from raftkv.errors import DigestTie, RaftKVError, Removed
from raftkv.interfaces import (
    Command,
    Consistency,
    IBackups,
    Identity,
    IForwarder,
    IKeyValue,
    INode,
    Leadership,
    Record,
    Result,
)
from raftkv.kvstore import Store
from raftkv.membership import Directory, Membership, RemovalWatch
from raftkv.raft.messages import SnapshotMeta
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role
from raftkv.server.archiving import Archiver
from raftkv.server.driver import Driver
from raftkv.server.fence import Fence
from raftkv.server.proposals import Proposals
from raftkv.server.readiness import CatchingUp
from raftkv.server.reads import Reads
from raftkv.server.repairing import EntriesSource
from raftkv.server.resync import Resync
from raftkv.server.snapshotter import Snapshotter
from raftkv.server.statemachine import StateMachine
from raftkv.server.tickets import Tickets
from raftkv.server.watching import Watches
from raftkv.watches import IWatch, WatchReceiver, WatchRequest


@implementer(IKeyValue, INode)
class Replica(Service):
    """A member of the cluster, whole but for its network interfaces. It lives once: another start is another object.

    :param recovered_snapshot: what the state begins with; ``None`` for nothing.
    :param stop_wait_seconds: how long stopping waits, for writes in flight and then for a successor.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        identity: Identity,
        clock: IReactorTime,
        node: RaftNode,
        driver: Driver,
        state_machine: StateMachine,
        proposals: Proposals,
        reads: Reads,
        tickets: Tickets,
        snapshotter: Snapshotter,
        directory: Directory,
        membership: Membership,
        removal: RemovalWatch,
        fence: Fence,
        resync: Resync,
        watches: Watches,
        forwarder: IForwarder,
        entries: EntriesSource,
        backups: IBackups,
        archiver: Archiver | None,
        catching_up: CatchingUp,
        recovered_snapshot: SnapshotMeta | None,
        tick_interval_seconds: float,
        election_timeout_seconds: float,
        stop_wait_seconds: float,
    ) -> None:
        self.identity = identity
        self.driver = driver
        self.state_machine = state_machine
        self.snapshotter = snapshotter
        self.backups = backups
        self.archiver = archiver
        self._clock = clock
        self._node = node
        self._proposals = proposals
        self._reads = reads
        self._tickets = tickets
        self._directory = directory
        self._membership = membership
        self._removal = removal
        self.fence = fence
        self._resync = resync
        self._watches = watches
        self._forwarder = forwarder
        self._entries = entries
        self._catching_up = catching_up
        self._recovered_snapshot = recovered_snapshot
        self._tick_interval_seconds = tick_interval_seconds
        self._election_timeout_seconds = election_timeout_seconds
        self._stop_wait_seconds = stop_wait_seconds
        self._started = clock.seconds()
        driver.when_failed(self._give_up)

    # -- life ----------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Start the node; it answers as soon as there is a leader and its state has been restored."""
        super().startService()
        self._started = self._clock.seconds()
        self.snapshotter.startService()
        if self._recovered_snapshot is not None:
            self.state_machine.restore(self._recovered_snapshot)
        self.driver.startService()
        if self.archiver is not None:
            self.archiver.startService()

    def stopService(self) -> Deferred[None]:
        """Finish what was taken, hand leadership over, and close; fires once all is on disk."""
        super().stopService()
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        self._tickets.refuse()
        finished = self._proposals.refuse()
        self._reads.refuse()
        self._watches.refuse()
        self._membership.stop()
        self.fence.stop()
        if self.driver.failure is None:
            await self._until(lambda: finished.called, self._stop_wait_seconds)
            await self._hand_over()  # should leadership have come back
        self._proposals.abandon()
        self._tickets.interrupt("the node stopped")
        # First nothing may begin any more (a leader may send a snapshot at any moment), then a restore ends while its
        # worker still runs, then the worker, and last the disk that both use.
        self.driver.take_nothing_more()
        self.state_machine.stop()
        if self.archiver is not None:
            await self.archiver.stopService()
        await self.snapshotter.stopService()
        await self.driver.stopService()

    def _give_up(self) -> None:
        """Answer everybody who waits: nothing moves any more, and nothing here is to be read."""
        self._proposals.abandon()
        self._tickets.interrupt("the node stopped")
        self._reads.refuse()
        self._watches.refuse()
        self.state_machine.stop()
        self.snapshotter.give_up()

    def hand_over(self) -> Deferred[None]:
        """Let another voter lead, if there is one; to be called before anything is stopped.

        While the interfaces still answer, writes that come meanwhile wait here, or at the node that they came to, and
        then go to the successor. Fires once it is known, and the others had time to hear of it: a write that reaches an
        interface that has closed has an unknown outcome.
        """
        self._tickets.refuse()
        return ensureDeferred(self._hand_over())

    async def _hand_over(self) -> None:
        node, limit_seconds = self._node, 2 * self._election_timeout_seconds
        if node.role is not Role.LEADER or not self._somebody_could_lead() or self.driver.failure is not None:
            return
        self._log.info("{node_id} hands leadership over", node_id=node.node_id)
        await self._until(self._has_asked_successor, limit_seconds)
        await self._until(lambda: node.role is Role.LEADER or node.leader is not None, limit_seconds)
        if node.leader not in (None, node.node_id):
            await deferLater(self._clock, self._tick_interval_seconds)

    def _somebody_could_lead(self) -> bool:
        node = self._node
        patience_ticks = self._election_timeout_seconds / self._tick_interval_seconds
        heard = {name for name, peer in node.progress().items() if peer.ticks_since_contact < patience_ticks}
        return bool(heard & node.configuration.voters)

    def _has_asked_successor(self) -> bool:
        """Ask a successor, and again whoever is the best then, as long as nobody has taken over."""
        node = self._node
        if node.role is not Role.LEADER or not self._somebody_could_lead():
            return True
        if node.transferring_to is None and not node.configuration.is_joint:
            node.transfer_leadership(None)
            self.driver.wake()
        return False

    def retire(self) -> None:
        """Fall silent: this node was removed, and its disk says so. Whoever asks it hears that."""
        self.driver.fall_silent()
        self._proposals.abandon(Removed)
        self._tickets.interrupt("the node was removed from the cluster")
        self._reads.refuse(Removed)
        self._watches.refuse(Removed)

    def interrupt(self, reason: type[RaftKVError]) -> None:
        """Answer everybody who waits: what would be read here, or computed, is not to be trusted."""
        self._proposals.interrupt(reason)
        self._reads.interrupt(reason)
        self._tickets.interrupt("the node had to stop serving")
        self._watches.interrupt(reason)
        if not issubclass(reason, DigestTie):
            self.snapshotter.cancel()

    async def _until(self, condition: Callable[[], bool], limit_seconds: float) -> None:
        give_up = self._clock.seconds() + limit_seconds
        while not condition() and self._clock.seconds() < give_up and self.driver.failure is None:
            await deferLater(self._clock, self._tick_interval_seconds / 10)

    # -- the store -----------------------------------------------------------------------------------------------

    def write(
        self,
        commands: Sequence[Command],
        done: Callable[[Sequence[Result] | RaftKVError], None],
        *,
        forwarded: bool = False,
    ) -> None:
        """See :class:`IKeyValue`."""
        refusal = self._refusal()
        if refusal is not None:
            done(refusal)
        else:
            self._proposals.submit(commands, done, forwarded=forwarded)

    def acquire(self, command: Command, done: Callable[[Result | RaftKVError], None]) -> Callable[[], None]:
        """See :class:`IKeyValue`."""
        refusal = self._refusal()
        if refusal is None:
            return self._tickets.acquire(command, done)
        done(refusal)
        return lambda: None

    def _refusal(self) -> RaftKVError | None:
        return Removed() if self._removal.is_removed else self.fence.refusal()

    def barrier(
        self,
        consistency: Consistency,
        done: Callable[[RaftKVError | None], None],
        *,
        max_stale_seconds: float | None = None,
    ) -> None:
        """See :class:`IKeyValue`."""
        if self._removal.is_removed:
            done(Removed())
        else:
            refusal = self.fence.refusal(consistency)
            if refusal is not None:
                done(refusal)
            else:
                self._reads.barrier(consistency, done, max_stale_seconds=max_stale_seconds)

    def at_turn_end(self, call: Callable[[], None]) -> bool:
        """See :class:`IKeyValue`."""
        return self.driver.at_turn_end(call)

    def staleness(self) -> float | None:
        """See :class:`IKeyValue`."""
        return self._reads.staleness()

    def get(self, key: bytes) -> Record | None:
        """See :class:`IKeyValue`."""
        return self.state_machine.store.get(key)

    def scan(self, start: bytes, end: bytes | None, limit: int) -> Iterator[tuple[bytes, Record]]:
        """See :class:`IKeyValue`."""
        return self.state_machine.store.scan(start, end, limit)

    def revision(self) -> int:
        """See :class:`IKeyValue`."""
        return self.state_machine.store.revision

    def state(self) -> Store:
        """See :class:`IKeyValue`."""
        return self.state_machine.store

    def watch(self, request: WatchRequest, receiver: WatchReceiver) -> IWatch:
        """See :class:`IKeyValue`."""
        return self._watches.open(request, receiver)

    # -- how are you ---------------------------------------------------------------------------------------------

    def leadership(self) -> Leadership:
        """See :class:`INode`."""
        node = self._node
        addresses = self._directory.addresses(node.leader)
        return Leadership(
            node_id=node.node_id,
            term=node.current_term,
            leader=node.leader,
            leader_http_addr=addresses.http_addr,
            leader_rpc_addr=addresses.rpc_addr,
            is_leader=node.role is Role.LEADER,
        )

    def status(self) -> dict[str, Any]:
        """See :class:`INode`."""
        node, store = self._node, self.state_machine.store
        return {
            "node_id": node.node_id,
            "cluster_id": self.identity.cluster_id,
            "role": self._role(),
            "term": node.current_term,
            "leader": node.leader,
            "commit_index": node.commit_index,
            "applied_index": store.applied_index,
            "first_index": node.first_index,
            "last_index": node.last_index,
            "snapshot_index": node.snapshot_index,
            "revision": store.revision,
            "compact_revision": store.compact_revision,
            "keys": store.key_count,
            "digest": store.digest(),
            "uptime": round(self._clock.seconds() - self._started, 3),
            "version": __version__,
            "alarms": self._alarms(),
            **({} if self.archiver is None else {"archived_index": self.archiver.position or 0}),
        }

    def _alarms(self) -> list[str]:
        node = self._node
        raised = {
            "disk_stalled": node.disk_stalled,
            "disk_nearly_full": node.disk_lacks_room,
            "disk_full": node.disk_is_full,
            "cluster_full": node.cluster_lacks_room,
            "snapshot_failed": self.snapshotter.has_failed,
            "log_incomplete": node.may_lack_entries,
        }
        of_archive = self.archiver.alarms() if self.archiver is not None else ()
        return [*(name for name, is_raised in raised.items() if is_raised), *self.fence.alarms(), *of_archive]

    def _role(self) -> str:
        node = self._node
        if self._removal.is_removed:
            return "removed"
        if node.node_id in node.configuration.learners:
            return "learner"
        return "candidate" if node.role is Role.PRE_CANDIDATE else node.role.value

    def cluster(self) -> Deferred[dict[str, Any]]:
        """See :class:`INode`."""
        if self._removal.is_removed:
            return fail(Removed())
        leader = self.leadership()
        if leader.is_leader or not leader.leader_rpc_addr:
            return succeed(self.local_cluster())
        asked: Deferred[dict[str, Any]] = self._forwarder.call(leader.leader_rpc_addr, "cluster", {})

        def not_reached(failure: Any) -> dict[str, Any]:
            failure.trap(RaftKVError)
            self._log.debug("the leader did not answer: {reason}", reason=failure.value)
            return self.local_cluster()

        return asked.addErrback(not_reached)

    def local_cluster(self) -> dict[str, Any]:
        """See :class:`INode`."""
        node = self._node
        members = [self._member(name) for name in sorted(node.configuration.members)]
        return {
            "cluster_id": self.identity.cluster_id,
            "leader": node.leader,
            "term": node.current_term,
            "members": members,
        }

    def _member(self, name: str) -> dict[str, Any]:
        node = self._node
        addresses = self._directory.addresses(name)
        configuration = node.configuration
        voter = configuration.is_voter(name)
        # As long as both sides decide, the cluster cannot yet bear for it what it bears for a voter.
        entering = configuration.is_joint and name in configuration.voters - configuration.outgoing_voters
        return {
            "id": name,
            "raft_addr": addresses.raft_addr,
            "rpc_addr": addresses.rpc_addr,
            "http_addr": addresses.http_addr,
            "role": "voter" if voter else "learner",
            "promoting": entering or name in configuration.promoting,
            "leader": name == node.leader,
            **self._health(name),
        }

    def _health(self, name: str) -> dict[str, Any]:
        node = self._node
        if node.role is not Role.LEADER:
            return {"match_index": None, "healthy": None, "last_contact": None, "disk": None}
        if name == node.node_id:
            return {
                "match_index": node.stable_index,
                "healthy": True,
                "last_contact": 0.0,
                "disk": node.disk_room.name.lower(),
            }
        progress = node.progress().get(name)
        if progress is None:
            return {"match_index": None, "healthy": None, "last_contact": None, "disk": None}
        silent_seconds = progress.ticks_since_contact * self._tick_interval_seconds
        return {
            "match_index": progress.match_index,
            "healthy": silent_seconds < self._election_timeout_seconds,
            "last_contact": round(silent_seconds, 3),
            "disk": progress.room.name.lower() if progress.room is not None else None,
        }

    def change_members(self, document: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """See :class:`INode`."""
        return fail(Removed()) if self._removal.is_removed else self._membership.change(document)

    def transfer_leadership(self, document: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """See :class:`INode`."""
        return fail(Removed()) if self._removal.is_removed else self._membership.transfer(document)

    def calls(self) -> dict[str, Callable[[Mapping[str, Any]], object]]:
        """Return what other nodes, and those that are to be, can ask of this one: of members, states and the log."""
        calls = {**self._membership.calls(), **self.fence.calls(), **self._resync.calls()}
        calls = {name: self._unless_removed(call) for name, call in calls.items()}
        # Others that wonder whether they were removed, too, may still learn from us; and a log is what it was.
        return {**calls, **self._entries.calls(), "membership": lambda _: self._membership.standing()}

    def _unless_removed(self, call: Callable[[Mapping[str, Any]], object]) -> Callable[[Mapping[str, Any]], object]:
        def answer(document: Mapping[str, Any]) -> object:
            # At once: whoever asks has other addresses to try, and here no leader will ever be known.
            return fail(Removed()) if self._removal.is_removed else call(document)

        return answer

    def is_ready(self) -> tuple[bool, str]:
        """See :class:`INode`."""
        node, store = self._node, self.state_machine.store
        if self._removal.is_removed:
            return False, "the node was removed from the cluster"
        if not self.running or self.driver.failure is not None:
            return False, "the node is not running"
        if hindrance := self.fence.hindrance():
            return False, hindrance
        if node.leader is None:
            return False, "no leader is known"
        if self.state_machine.is_restoring:
            return False, "a snapshot is being restored"
        heard = node.term_at(node.commit_index) == node.current_term
        if not heard or store.applied_index < node.commit_index or not self._catching_up.is_done:
            return False, f"applied index {store.applied_index} is behind the cluster's"
        return True, "ready"

    def counters(self) -> Mapping[str, float]:
        """See :class:`INode`."""
        return {
            "proposed_entries": self._proposals.proposed_entries,
            "proposed_commands": self._proposals.proposed_commands,
            "forwarded_commands": self._proposals.forwarded_commands,
            "pending_commands": self._proposals.pending_commands,
            "applied_entries": self.state_machine.applied_entries,
            "applied_commands": self.state_machine.applied_commands,
            "read_barriers": self._reads.barriers,
            "read_rounds": self._reads.rounds_asked,
            "lease_reads": self._reads.served_by_lease,
            "stale_reads": self._reads.served_stale,
            "messages_sent": self.driver.messages_sent,
            "messages_received": self.driver.messages_received,
            "leaders_gone": self.driver.leaders_gone,
            "watchers": len(self._watches),
            "watches_begun": self._watches.begun,
            "watches_compacted": self._watches.compacted_watches,
            "watches_overflowed": self._watches.overflowed,
            "watch_events": self._watches.told_events,
            "snapshots_taken": self.snapshotter.taken,
            "snapshots_failed": self.snapshotter.failed,
            **(self.archiver.counters() if self.archiver is not None else {}),
            "states_noted": self.fence.noted,
            "states_diverged": self.fence.closed,
            "states_fetched": self._resync.fetched,
            "states_lent": self._resync.lent,
        }
