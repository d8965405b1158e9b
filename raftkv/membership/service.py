"""Changes of the members and transfers of leadership: taken by any node, carried out by the leader, answered when done.

It knows when a change may be begun and when it is finished. What a change leads to is ``changes``; joint configurations
and the transfer itself are the core's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import (
    BadRequest,
    Conflict,
    NoLeader,
    NotFound,
    NotLeader,
    OutcomeUnknown,
    ProposalDropped,
    RaftKVError,
    RequestTimeout,
    ShuttingDown,
)
from raftkv.interfaces import Identity, IForwarder
from raftkv.membership.changes import (
    MemberChange,
    checked_address,
    checked_id,
    identified,
    parse_change,
    planned,
    refuse_loss_of_quorum,
    taken_in,
)
from raftkv.membership.directory import Directory
from raftkv.membership.promoter import Promoter
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import Entry
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role, SoftState

#: A request that other nodes send to the leader: takes its arguments, fires with what msgpack can carry.
Call = Callable[[Mapping[str, Any]], Deferred[dict[str, Any]]]
_PATIENCE = 0.5  # share of the time left in which the next leader is waited for, only to be asked how things are
_SILENT_TIMEOUTS = 3  #: election timeouts without a word after which a member may be gone, and its name be taken
_Plan = Callable[[Configuration], Configuration]
_Lead = Callable[[float], Coroutine[Deferred[Any], Any, dict[str, Any]]]


class Membership:
    """The changes of one node; takes part in the driver's turn.

    :param describe: returns the JSON object of ``GET /v1/cluster`` as this node knows it.
    :param seconds: the monotonic clock that time-outs are measured by.
    :param wake: asks the driver for a turn.
    :param request_timeout_seconds: how long a request may take altogether.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        identity: Identity,
        node: RaftNode,
        directory: Directory,
        promoter: Promoter,
        forwarder: IForwarder,
        describe: Callable[[], dict[str, Any]],
        seconds: Callable[[], float],
        wake: Callable[[], None],
        request_timeout_seconds: float,
        election_ticks: int,
    ) -> None:
        self._identity = identity
        self._node = node
        self._directory = directory
        self._promoter = promoter
        self._forwarder = forwarder
        self._describe = describe
        self._seconds = seconds
        self._wake = wake
        self._request_timeout_seconds = request_timeout_seconds
        self._election_ticks = election_ticks
        self._leading_ticks = 0
        self._changing = False
        self._stopped = False
        self._turns: list[Deferred[None]] = []

    # -- requests ------------------------------------------------------------------------------------------------

    def change(self, document: Mapping[str, Any], *, forwarded: bool = False) -> Deferred[dict[str, Any]]:
        """Change the members; fires with the cluster once the change is committed.

        :param document: see :func:`raftkv.membership.changes.parse_change`.
        :param forwarded: another node sent it here; it is not forwarded again (B64).
        """

        async def lead(deadline: float) -> dict[str, Any]:
            if self._changing:
                raise Conflict("another change of the members is under way; try again once it is done")
            busy = Conflict("another change of the members is under way, and is not committed yet")
            await self._carry_out(lambda now: self._plan(change, now), deadline, busy)
            return await self._outcome(deadline)

        try:
            change = parse_change(document)
        except BadRequest as error:
            return _failed(error)
        return self._perform("change_members", document, lead, forwarded=forwarded)

    def join(self, document: Mapping[str, Any], *, forwarded: bool = False) -> Deferred[dict[str, Any]]:
        """Make the node that asks a member; fires with what it has to know to begin.

        A node that stands there with another data directory has lost that one, and takes its own place again.

        :param document: its ``id``, ``incarnation``, ``raft_addr``, ``rpc_addr`` and ``http_addr``.
        """

        async def lead(deadline: float) -> dict[str, Any]:
            busy = RequestTimeout("another change of the members is under way", "not_applied")
            await self._old_one_is_gone(member, deadline)
            while not await self._take_in(member, deadline, busy):
                pass
            configuration, index = self._node.committed_configuration()
            return {
                "cluster_id": self._identity.cluster_id,
                "configuration": configuration.encode().decode(),
                "configuration_index": index,
            }

        try:
            member = _joining_member(document)
        except BadRequest as error:
            return _failed(error)
        return self._perform("join_at_leader", document, lead, forwarded=forwarded)

    def identify(self, document: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """Note the incarnation of a member that was added by name alone; only the leader is asked.

        Whoever asks may have been removed since, and not know it yet: it must not become a member again by this.

        :param document: as for :meth:`join`.
        """

        async def lead(deadline: float) -> dict[str, Any]:
            busy = RequestTimeout("another change of the members is under way", "not_applied")
            while self._changing:
                await self._turn(deadline, busy)
            await self._carry_out(lambda now: identified(member, now), deadline, busy)
            return {}

        try:
            member = _joining_member(document)
        except BadRequest as error:
            return _failed(error)
        return self._perform("identify", document, lead, forwarded=True)

    def transfer(self, document: Mapping[str, Any], *, forwarded: bool = False) -> Deferred[dict[str, Any]]:
        """Hand leadership over; fires with ``{"leader", "term"}`` once another one leads.

        :param document: ``{"to": id}``, or nothing for the member that is the furthest.
        """
        try:
            to = _transfer_target(document)
        except BadRequest as error:
            return _failed(error)
        return self._perform(
            "transfer_leadership", document, lambda deadline: self._transfer(to, deadline), forwarded=forwarded
        )

    def standing(self) -> dict[str, Any]:
        """Return the committed configuration, for a node that wonders whether it is still a member."""
        configuration, index = self._node.committed_configuration()
        return {"configuration": configuration.encode().decode(), "configuration_index": index}

    def calls(self) -> dict[str, Callable[[Mapping[str, Any]], object]]:
        """Return what other nodes can ask of this one."""
        return {
            "change_members": lambda document: self.change(document, forwarded=True),
            "transfer_leadership": lambda document: self.transfer(document, forwarded=True),
            "join": self.join,
            "join_at_leader": lambda document: self.join(document, forwarded=True),
            "identify": self.identify,
            "membership": lambda _: self.standing(),
        }

    # -- finding the leader --------------------------------------------------------------------------------------

    def _perform(
        self, name: str, document: Mapping[str, Any], lead: _Lead, *, forwarded: bool
    ) -> Deferred[dict[str, Any]]:
        return ensureDeferred(self._find_leader(name, document, lead, forwarded=forwarded))

    async def _find_leader(
        self, name: str, document: Mapping[str, Any], lead: _Lead, *, forwarded: bool
    ) -> dict[str, Any]:
        # What was forwarded ends a little earlier, so that its answer finds somebody who still waits for it.
        deadline = self._seconds() + self._request_timeout_seconds * (0.8 if forwarded else 1.0)
        while True:
            try:
                if self._node.role is Role.LEADER:
                    return await lead(deadline)
                if forwarded:
                    raise NotLeader(self._node.leader, self._node.current_term)
                address = self._directory.addresses(self._node.leader).rpc_addr
                if address:
                    answer: dict[str, Any] = await self._forwarder.call(address, name, document)
                    return answer
            except NoLeader as refusal:
                # It certainly had no effect, so it is safe to look for the leader anew.
                if forwarded or self._stopped:
                    raise
                self._log.debug("{call} is tried again: {reason}", call=name, reason=refusal)
            await self._turn(deadline, NoLeader())

    # -- nodes that join -----------------------------------------------------------------------------------------

    async def _old_one_is_gone(self, member: Member, deadline: float) -> None:
        """Wait until whoever bears this name with another data directory has been silent for some election timeouts.

        For several, since a node that is merely slow must not lose its name.

        :raises Conflict: it is alive: two nodes bear one name, and it is not the newcomer's.
        """
        node, ticks = self._node, self._leading_ticks
        patience_ticks = _SILENT_TIMEOUTS * self._election_ticks
        while self._is_replaced_by(member):
            if member.id == node.node_id:
                raise Conflict(f"{member.id} leads the cluster, with another data directory")
            progress = node.progress().get(member.id)
            silent_ticks = progress.ticks_since_contact if progress is not None else patience_ticks
            if silent_ticks >= patience_ticks:
                return
            if silent_ticks < self._leading_ticks - ticks and self._seconds() + 1.0 > deadline:
                raise Conflict(
                    f"{member.id} is a member already, and answers from another data directory; stop that node first, "
                    "or choose another raft.nodeID"
                )
            await self._turn(deadline, RequestTimeout(f"the former {member.id} may still be running", "not_applied"))
            if node.role is not Role.LEADER:
                raise NotLeader(node.leader, node.current_term)

    def _is_replaced_by(self, member: Member) -> bool:
        known = self._node.configuration.members.get(member.id)
        return known is not None and known.incarnation not in ("", member.incarnation)

    async def _take_in(self, member: Member, deadline: float, busy: Exception) -> bool:
        """Make one step towards a configuration that holds a node; return whether that is reached."""
        while self._changing:  # nodes that start together join one after the other
            await self._turn(deadline, busy)
        before = self._node.configuration.members.get(member.id)
        await self._carry_out(lambda now: taken_in(member, now), deadline, busy)
        configuration, _ = self._node.committed_configuration()
        known = configuration.members.get(member.id)
        if known is None or known.incarnation != member.incarnation:
            self._log.info(
                "{peer} comes with an empty data directory: its former one does not count any more", peer=member.id
            )
            return False
        if before is None or before.incarnation != known.incarnation:
            self._log.info(
                "{peer} is a member with data directory {incarnation}", peer=member.id, incarnation=known.incarnation
            )
        return True

    # -- leading -------------------------------------------------------------------------------------------------

    def _plan(self, change: MemberChange, configuration: Configuration) -> Configuration:
        target = planned(change, configuration, caught_up=self._promoter.caught_up())
        if not change.force and target.voters != configuration.voters:
            refuse_loss_of_quorum(target, self._healthy())
        return target

    def _healthy(self) -> set[str]:
        node = self._node
        heard = (
            name
            for name, progress in node.progress().items()
            if progress.match_index and progress.ticks_since_contact < self._election_ticks
        )
        return {node.node_id, *heard}

    async def _carry_out(self, plan: _Plan, deadline: float, busy: Exception) -> None:
        self._changing = True
        try:
            entry = await self._propose(plan, deadline, busy)
            if entry is not None:
                await self._committed(entry, deadline)
        finally:
            self._changing = False

    async def _propose(self, plan: _Plan, deadline: float, busy: Exception) -> Entry | None:
        """Propose what ``plan`` makes of the configuration in force; ``None`` where that is the same.

        Changes that nobody asked for (addresses, promotions, one that an earlier leader began) are waited for.

        :param busy: raised where they take too long.
        """
        node = self._node
        while True:
            if node.role is not Role.LEADER:
                raise NotLeader(node.leader, node.current_term)
            if not node.configuration.is_joint and node.configuration_index <= node.commit_index:
                try:
                    # What is known of the members by now goes with it.
                    target = plan(self._directory.renewed() or node.configuration)
                    if target == node.configuration:
                        return None
                    entry = node.propose_configuration(target)
                except ProposalDropped as error:
                    self._log.debug("the change waits: {reason}", reason=error)
                except Conflict:
                    # A leader hears from the others within its first heartbeats: until then nobody seems to live.
                    if self._leading_ticks >= self._election_ticks:
                        raise
                else:
                    self._wake()
                    return entry
            await self._turn(deadline, busy)

    async def _committed(self, entry: Entry, deadline: float) -> None:
        node = self._node
        while True:
            if node.commit_index >= entry.index:
                if node.term_at(entry.index) not in (None, entry.term):
                    raise ProposalDropped
                configuration, index = node.committed_configuration()
                if not configuration.is_joint and index >= entry.index:
                    return
            message = f"the change was not committed within {self._request_timeout_seconds:g} seconds; it may be yet"
            try:
                await self._turn(deadline, RequestTimeout(message, "unknown"))
            except ShuttingDown:
                raise OutcomeUnknown("the node stopped before the change was committed") from None

    async def _outcome(self, deadline: float) -> dict[str, Any]:
        """Return the cluster as the leader sees it; a change may have made another one the leader."""
        node = self._node
        give_up = self._seconds() + _PATIENCE * (deadline - self._seconds())
        try:
            while node.leader is None and node.node_id in node.configuration.members:
                await self._turn(give_up, NoLeader())
            address = self._directory.addresses(node.leader).rpc_addr
            if node.role is not Role.LEADER and address:
                answer: dict[str, Any] = await self._forwarder.call(address, "cluster", {})
                return answer
        except RaftKVError as reason:
            # The change is committed whatever happens now, so that this is not its outcome.
            self._log.debug("the next leader was not asked how the cluster is: {reason}", reason=reason)
        return self._describe()

    async def _transfer(self, to: str | None, deadline: float) -> dict[str, Any]:
        node = self._node
        if to is not None and to not in node.configuration.members:
            raise NotFound(f"to: there is no member {to}")
        if to != node.node_id:
            term = node.current_term
            while node.configuration.is_joint and node.role is Role.LEADER:
                # The entry that leaves it would come behind what the successor has, which then could not win.
                await self._turn(deadline, RequestTimeout("the members are being changed", "not_applied"))
            node.transfer_leadership(to)
            self._wake()
            while node.role is Role.LEADER and node.current_term == term:
                if node.transferring_to is None:
                    raise RequestTimeout(
                        f"{to or 'no other voter'} did not take over within an election timeout; "
                        f"{node.node_id} goes on leading",
                        "not_applied",
                    )
                await self._turn(deadline, RequestTimeout("leadership is still being transferred", "unknown"))
        while node.leader is None:
            await self._turn(deadline, RequestTimeout("no new leader is known yet", "unknown"))
        if to is not None and node.leader != to:
            raise Conflict(f"{node.leader} leads now, and not {to}")
        return {"leader": node.leader, "term": node.current_term}

    # -- the driver's turn ---------------------------------------------------------------------------------------

    def gather(self) -> None:
        """Let those go on who wait for something to change."""
        if self._turns:
            turns, self._turns = self._turns, []
            for turn in turns:
                turn.callback(None)

    def soft_state_changed(self, state: SoftState) -> None:
        """A new leadership begins to count."""
        self._leading_ticks = 0

    def tick(self) -> None:
        """Make sure that time-outs are noticed."""
        self._leading_ticks += 1
        if self._leading_ticks % self._election_ticks == 0:
            self._say_who_we_are()
        if self._turns:
            self._wake()

    def _say_who_we_are(self) -> None:
        """Tell the leader our incarnation, where somebody has added us by name alone while we were running.

        Usually a node says it by joining; without it nobody could make us a voter.
        """
        node, identity = self._node, self._identity
        member = node.configuration.members.get(node.node_id)
        leader = self._directory.addresses(node.leader).rpc_addr
        if member is None or member.incarnation or node.node_id not in node.configuration.learners or not leader:
            return
        request = {
            "id": identity.node_id,
            "incarnation": identity.incarnation,
            "raft_addr": identity.raft_addr,
            "rpc_addr": identity.rpc_addr,
            "http_addr": identity.http_addr,
        }
        self._forwarder.call(leader, "identify", request).addErrback(self._not_told)

    def _not_told(self, failure: Failure) -> None:
        failure.trap(RaftKVError)
        self._log.debug("the leader does not know our incarnation yet: {reason}", reason=failure.value)

    async def _turn(self, deadline: float, late: Exception) -> None:
        """Wait for the next turn.

        :param late: raised where the time is over.
        """
        if self._stopped:
            raise ShuttingDown
        if self._seconds() >= deadline:
            raise late
        turn: Deferred[None] = Deferred()
        self._turns.append(turn)
        await turn
        if self._stopped:
            raise ShuttingDown

    def stop(self) -> None:
        """End everything that still waits."""
        self._stopped = True
        self.gather()


def _failed(error: Exception) -> Deferred[dict[str, Any]]:
    failed: Deferred[dict[str, Any]] = Deferred()
    failed.errback(error)
    return failed


def _transfer_target(document: Mapping[str, Any]) -> str | None:
    for name in document:
        if name != "to":
            raise BadRequest(f"{str(name)[:80]}: unknown field; known here: to")
    to = document.get("to")
    return None if to is None else checked_id(to, "to")


def _joining_member(document: Mapping[str, Any]) -> Member:
    incarnation = document.get("incarnation")
    if not isinstance(incarnation, str) or not 1 <= len(incarnation) <= 128:
        raise BadRequest("incarnation: expected the id that the node has made for itself")
    return Member(
        id=checked_id(document.get("id"), "id"),
        incarnation=incarnation,
        raft_addr=checked_address(document.get("raft_addr"), "raft_addr"),
        rpc_addr=checked_address(document.get("rpc_addr"), "rpc_addr"),
        http_addr=checked_address(document.get("http_addr"), "http_addr"),
    )
