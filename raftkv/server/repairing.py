"""A node whose log is damaged, before it is one: it asks the others for what it lacks, and tells them what it has.

It takes no part in Raft meanwhile: it neither votes nor leads nor follows, so that nobody counts on a log of which it
does not know what was in it (B41, B42). What is missing, and how a log is written anew, is the business of
:mod:`raftkv.persistence.repair`; here are only the asking, and the decision to ask no longer.

**When nobody has it.** As soon as a majority of the voters, this one not among them, have answered that they do not
have an entry (or no longer, in a snapshot's stead), they can elect a leader without this node, and the leader has
whatever was committed. So the rest of the log is given up, and this node goes on without a vote until it has caught up
with that leader. As long as fewer answer, somebody who has the entry may be among the others, and it goes on asking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from raftkv.errors import NoLeader, ProtocolViolation, RaftKVError, Removed
from raftkv.interfaces import (
    EntriesAnswer,
    EntriesRequest,
    IForwarder,
    IPeerReceiver,
    IPeerTransport,
    IStorage,
)
from raftkv.persistence.repair import LogRepair
from raftkv.protocols.repairs import (
    LOG_ENTRIES,
    MAX_ANSWER_BYTES,
    MAX_ENTRIES,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from raftkv.protocols.snapshots import ISnapshotFile, ISnapshotSink, ISnapshotSource
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Entry, Message, SnapshotMeta
from raftkv.raft.node import RaftNode
from raftkv.raft.quorum import VoteResult, vote_result
from raftkv.server.waiting import Waiting

_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 4.0


class EntriesSource:
    """Answers those whose logs are damaged, for a node whose own is not.

    Any log can supply what it holds: that of a node whose state is wrong, or that was removed since, is right.

    :param is_removed: tells whether this node was removed from the cluster.
    """

    def __init__(self, *, node: RaftNode, storage: IStorage, is_removed: Callable[[], bool]) -> None:
        self._node = node
        self._storage = storage
        self._is_removed = is_removed

    def calls(self) -> dict[str, Callable[[Mapping[str, Any]], object]]:
        """Return what others can ask, by name."""
        return {LOG_ENTRIES: self._answer}

    def _answer(self, arguments: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        request = decode_request(arguments)
        node = self._node
        previous_term = node.term_at(request.first - 1)
        if node.term_at(request.anchor_index) != request.anchor_term or previous_term is None:
            if self._is_removed():
                return fail(Removed())  # what came after that was not for us, so that our lacking it says nothing
            # Who may have lost what it had cannot say that it never had something.
            return succeed(encode_answer(EntriesAnswer(is_damaged=node.may_lack_entries)))
        stop = min(request.stop, request.first + MAX_ENTRIES, node.stable_index + 1)
        if stop <= request.first:
            # Nothing but the term in front is asked for; or what is not on our own disk either, which has time.
            known = EntriesAnswer(previous_term=previous_term) if request.first == request.stop else EntriesAnswer()
            return succeed(encode_answer(known))
        answer: Deferred[dict[str, Any]] = Deferred()
        self._storage.read(request.first, stop, MAX_ANSWER_BYTES, partial(self._read, request, previous_term, answer))
        return answer

    def _read(
        self,
        request: EntriesRequest,
        previous_term: int,
        answer: Deferred[dict[str, Any]],
        entries: Sequence[Entry],
    ) -> None:
        # The log may have been cut in between; if it still holds the anchor, what came before it is the same.
        if not entries or self._node.term_at(request.anchor_index) != request.anchor_term:
            answer.callback(encode_answer(EntriesAnswer()))
        else:
            answer.callback(encode_answer(EntriesAnswer(previous_term=previous_term, entries=tuple(entries))))


@implementer(IPeerReceiver)
class Repairing(Service):
    """Asks until the log is whole, or it is known that nobody has what is missing.

    :param repair: the log.
    :param node_id: who we are.
    :param known: configurations that may be in force, the latest last.
    :param transport: learns where the others are.
    :param repaired: called once, when the log has been written anew.
    :param fatal: called in its place with the error that makes it impossible.
    :ivar waiting: what the interfaces show meanwhile.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        repair: LogRepair,
        node_id: str,
        known: Sequence[Configuration],
        transport: IPeerTransport,
        forwarder: IForwarder,
        clock: IReactorTime,
        repaired: Callable[[], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._repair = repair
        self._node_id = node_id
        self._configuration = known[-1]
        self._members = {name: member for configuration in known for name, member in configuration.members.items()}
        self._transport = transport
        self._forwarder = forwarder
        self._clock = clock
        self._repaired = repaired
        self._fatal = fatal
        self._asking: Deferred[None] | None = None
        self.waiting = Waiting(node_id=node_id, role="repairing", reason=self._reason, seconds=clock.seconds)

    def _reason(self) -> str:
        return f"its log is damaged, and {len(self._repair.missing())} entries are asked of the other members"

    def startService(self) -> None:
        """Begin to ask."""
        super().startService()
        self._transport.start(self)
        self._transport.set_members(replace(self._configuration, members=self._members))
        self._asking = ensureDeferred(self._ask())
        self._asking.addErrback(self._failed)

    def stopService(self) -> Deferred[None]:
        """Ask no more."""
        super().stopService()
        if self._asking is not None:
            self._asking.cancel()
        return succeed(None)

    def calls(self) -> dict[str, Callable[[Mapping[str, Any]], object]]:
        """Return what others can ask of a node in this state: what it has of its log; all else of somebody else."""
        return {**self.waiting.calls(), LOG_ENTRIES: self._answer}

    def _answer(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        request = decode_request(arguments)
        request = replace(request, stop=min(request.stop, request.first + MAX_ENTRIES))
        return encode_answer(self._repair.answer(request, max_bytes=MAX_ANSWER_BYTES))

    def _failed(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self._fatal(failure.value)

    async def _ask(self) -> None:
        missing = self._repair.missing()
        self._log.warn(
            "{node_id}: {damage}; {count} entries are missing or in doubt, and are asked of the other members",
            node_id=self._node_id,
            damage=self._repair.first_damage,
            count=len(missing),
        )
        wait_seconds = _FIRST_WAIT_SECONDS
        lacking: set[str] = set()
        while (request := self._repair.request()) is not None:
            helped = False
            for name in sorted(self._members):
                answer = await self._ask_one(name, request) if name != self._node_id else None
                if answer is None:
                    continue
                if self._repair.take(request, answer):
                    helped = True
                    break
                if not answer.is_damaged:
                    lacking.add(name)
            if helped:
                lacking.clear()
                wait_seconds = _FIRST_WAIT_SECONDS
            elif self._can_do_without_us(lacking):
                break
            else:
                self._log.warn(
                    "{node_id}: nobody who could be reached has entry {index} of term {term}; {names} do not",
                    node_id=self._node_id,
                    index=request.anchor_index,
                    term=request.anchor_term,
                    names=", ".join(sorted(lacking)) or "none",
                )
                await deferLater(self._clock, wait_seconds)
                wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)
        self._finish(len(missing))

    def _finish(self, missing: int) -> None:
        lost = self._repair.missing()
        last_index = self._repair.write()
        if lost or self._repair.end_is_lost:
            self._log.warn(
                "{node_id}: the log ends with entry {index} now; what came behind it is lost, so that this node has no "
                "vote until a leader of a later term has brought it up to date",
                node_id=self._node_id,
                index=last_index,
            )
        else:
            self._log.info(
                "{node_id}: the log is whole again, {count} entries came from other members",
                node_id=self._node_id,
                count=missing,
            )
        self._repaired()

    def _can_do_without_us(self, others: set[str]) -> bool:
        """Tell whether these, who do not have what we lack, can elect a leader without us."""
        configuration = self._configuration
        votes = dict.fromkeys(others - {self._node_id}, True)
        return vote_result(configuration.voters, configuration.outgoing_voters, votes) is VoteResult.WON

    async def _ask_one(self, name: str, request: EntriesRequest) -> EntriesAnswer | None:
        """Return what a member answers, ``None`` where it does not."""
        met = self._transport.known_peers().get(name)
        address = met.rpc_addr if met is not None else self._members[name].rpc_addr
        if not address:
            return None
        try:
            value = await self._forwarder.call(address, LOG_ENTRIES, encode_request(request))
            return decode_answer(request, value)
        except (RaftKVError, ProtocolViolation) as error:
            self._log.debug("{peer} does not tell of its log: {reason}", peer=name, reason=error)
            return None

    # -- what other members say in the meantime ------------------------------------------------------------------------

    def received(self, messages: Sequence[Message]) -> None:
        """See :class:`IPeerReceiver`: nothing is answered, as if it were lost."""

    def peer_unreachable(self, peer: str) -> None:
        """See :class:`IPeerReceiver`."""

    def peer_closed(self, peer: str) -> None:
        """See :class:`IPeerReceiver`."""

    def snapshot_sent(self, peer: str, index: int, delivered: bool) -> None:
        """See :class:`IPeerReceiver`: nothing was sent."""


@implementer(ISnapshotSource, ISnapshotSink)
class NoSnapshots:
    """Neither gives nor takes a snapshot."""

    def newest(self) -> Deferred[ISnapshotFile | None]:
        """See :class:`ISnapshotSource`."""
        return succeed(None)

    def begin(self, meta: SnapshotMeta, size: int, digest: str) -> Deferred[int]:
        """See :class:`ISnapshotSink`."""
        return fail(NoLeader())

    def write(self, offset: int, data: bytes) -> Deferred[None]:
        """See :class:`ISnapshotSink`."""
        return fail(NoLeader())

    def finish(self) -> Deferred[SnapshotMeta]:
        """See :class:`ISnapshotSink`."""
        return fail(NoLeader())

    def abort(self) -> None:
        """See :class:`ISnapshotSink`."""
