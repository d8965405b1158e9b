"""A node of a new cluster makes sure that the cluster is new, before it makes its data directory.

An empty directory says nothing about what was there before: the node may start for the first time, or it may have voted
and acknowledged, and lost its disk since (B24). So it asks the others of ``raft.peers``. Where one of them holds
anything, a term, a vote or a log, the cluster has begun, and this node joins it as a learner, whoever it was. It founds
the cluster only together with a majority that holds nothing, and then notes the incarnations of all that it has met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import RaftKVError
from raftkv.interfaces import Identity, Joined, Standing
from raftkv.raft.configuration import Configuration, Member

_UNSURE = "it founds the cluster, and has not met this node"
_ROUND_SECONDS = 0.2  #: between two rounds of questions, at first
_LONGEST_ROUND_SECONDS = 2.0
_ANSWER_SECONDS = 2.0  #: within which a question must be answered to count in its round


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The cluster is new: begin it with this configuration."""

    configuration: Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejoin:
    """The cluster has begun: ask these RPC addresses to be taken in.

    :ivar peers: the nodes that said so.
    """

    peers: tuple[str, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing can be decided yet.

    :ivar reason: what is missing.
    """

    reason: str


def decide(
    own: Identity,
    peers: Mapping[str, str],
    answers: Mapping[str, Standing],
    *,
    silent: Mapping[str, str],
    patient: bool,
) -> Found | Rejoin | Wait:
    """Decide what to make of an empty directory.

    :param peers: ``raft.peers``.
    :param answers: what the others have said just now, by name.
    :param silent: why the others have not.
    :param patient: whether to wait for those who are silent although a majority holds nothing.
    """
    holders = sorted(name for name, standing in answers.items() if standing.holds)
    if holders:
        addresses = (answers[name].identity.rpc_addr for name in holders)
        return Rejoin(peers=tuple(holders), addresses=tuple(filter(None, addresses)))
    # A founder that cannot tell has no say, neither for beginning nor for joining: it may never get a leader alone.
    unsure = {name: _UNSURE for name, standing in answers.items() if standing.holds is None}
    answers = {name: standing for name, standing in answers.items() if name not in unsure}
    silent = {**silent, **unsure}
    missing = sorted(peers.keys() - answers.keys() - {own.node_id})
    needed = len(peers) // 2 + 1
    if missing and (patient or len(answers) + 1 < needed):
        reasons = ", ".join(f"{name} at {peers[name]} ({silent.get(name, 'not asked yet')})" for name in missing)
        return Wait(
            reason=f"waiting for an answer of {reasons}: {len(answers) + 1} of {len(peers)} nodes are here with empty "
            f"data directories, and {needed} are needed to found the cluster"
        )
    incarnations = {own.node_id: own.incarnation}
    incarnations.update((name, standing.identity.incarnation) for name, standing in answers.items())
    members = {
        name: Member(id=name, incarnation=incarnations.get(name, ""), raft_addr=peers[name]) for name in sorted(peers)
    }
    return Found(configuration=Configuration(members=members, voters=frozenset(peers)))


class Founding(Service):
    """Asks until it is clear what the empty directory means.

    :param own: who this node will be; its incarnation is on disk already, so that a crash changes nothing.
    :param ask: asks one peer, given its name and its address.
    :param patience_seconds: how long to wait for all peers where a majority would do.
    :param founded: called once: the cluster is new, begin with this.
    :param rejoin: called once in place of ``founded``: the cluster has begun, and :attr:`addresses` know of it.
    :ivar reason: what it waits for, for people.
    :ivar addresses: RPC addresses of nodes that know of the cluster. It goes on asking, for those that were the first
        to answer may go away.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        own: Identity,
        peers: Mapping[str, str],
        ask: Callable[[str, str], Deferred[Standing]],
        clock: IReactorTime,
        patience_seconds: float,
        founded: Callable[[Joined], None],
        rejoin: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.reason = "asking the other nodes whether the cluster has begun"
        self._own = own
        self._peers = peers
        self._ask = ask
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._founded = founded
        self._rejoin = rejoin
        self._failed = failed
        self._deciding: Deferred[None] | None = None
        self.addresses: tuple[str, ...] = ()

    def startService(self) -> None:
        """Begin to ask."""
        super().startService()
        self._deciding = ensureDeferred(self._decide())
        self._deciding.addErrback(self._ended)

    def stopService(self) -> Deferred[None]:
        """Ask no more."""
        super().stopService()
        if self._deciding is not None:
            self._deciding.cancel()
        return succeed(None)

    def _ended(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._failed(failure.value if isinstance(failure.value, Exception) else RuntimeError(repr(failure.value)))

    async def _decide(self) -> None:
        node_id = self._own.node_id
        self._log.info(
            "{node_id} has an empty data directory, and asks {peers} whether the cluster has begun",
            node_id=node_id,
            peers=", ".join(sorted(self._peers.keys() - {node_id})),
        )
        began = self._clock.seconds()
        pause_seconds = _ROUND_SECONDS
        while True:
            answers, silent = await self._ask_all()
            patient = self._clock.seconds() - began < self._patience_seconds
            decision = decide(self._own, self._peers, answers, silent=silent, patient=patient)
            if isinstance(decision, Rejoin):
                self._know(decision)
            elif self.addresses:
                pass  # who knew of the cluster is away just now; what it said stays true
            elif isinstance(decision, Found):
                self._begin(decision)
                return
            else:
                self._wait_for(decision.reason)
            await deferLater(self._clock, pause_seconds)
            pause_seconds = min(1.5 * pause_seconds, _LONGEST_ROUND_SECONDS)

    def _know(self, decision: Rejoin) -> None:
        is_news = not self.addresses
        self.addresses = decision.addresses or self.addresses
        if is_news and self.addresses:
            self._log.warn(
                "{node_id} has an empty data directory, but {peers} know of a cluster that has begun: "
                "it joins that as a learner",
                node_id=self._own.node_id,
                peers=", ".join(decision.peers),
            )
            self._rejoin()

    def _begin(self, decision: Found) -> None:
        met = sorted(name for name, member in decision.configuration.members.items() if member.incarnation)
        self._log.info(
            "{node_id} founds cluster {cluster_id} together with {peers}",
            node_id=self._own.node_id,
            cluster_id=self._own.cluster_id,
            peers=", ".join(name for name in met if name != self._own.node_id),
        )
        self._founded(
            Joined(
                incarnation=self._own.incarnation,
                cluster_id=self._own.cluster_id,
                configuration=decision.configuration,
            )
        )

    def _wait_for(self, reason: str) -> None:
        if reason != self.reason:
            self.reason = reason
            self._log.warn("{node_id} cannot begin yet: {reason}", node_id=self._own.node_id, reason=reason)

    async def _ask_all(self) -> tuple[dict[str, Standing], dict[str, str]]:
        """Ask everybody at once; only what is said in one round counts together."""
        answers: dict[str, Standing] = {}
        silent: dict[str, str] = {}

        def answered(standing: Standing, name: str) -> None:
            answers[name] = standing

        def not_answered(failure: Failure, name: str) -> None:
            failure.trap(RaftKVError, defer.TimeoutError)
            silent[name] = str(failure.value) if failure.check(RaftKVError) else "no answer"

        questions = []
        for name in sorted(self._peers.keys() - {self._own.node_id}):
            question = self._ask(name, self._peers[name]).addTimeout(_ANSWER_SECONDS, self._clock)
            questions.append(question.addCallbacks(answered, not_answered, callbackArgs=(name,), errbackArgs=(name,)))
        for success, outcome in await DeferredList(questions, consumeErrors=True):
            if not success and isinstance(outcome, Failure):
                outcome.raiseException()
        return answers, silent
