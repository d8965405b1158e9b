"""Members that come and go while everything else goes wrong: the operator of a simulated cluster, and a bad one.

Requests go to any node, as an operator's would, and are made up without much thought: several members at once, voters
that never start, the leader itself. Only what would destroy a cluster by its very meaning is left out: ``force``, and
emptying the disk of somebody who is still a member. Machines that were removed come back empty, at times under their
old name (B23). What a cluster does with all that is judged elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import partial
from typing import Any

from raftkv.errors import RaftKVError, StorageError
from raftkv.interfaces import Joined
from raftkv.membership import join_request, joined_from
from raftkv.persistence.membership import load_joined, store_joined
from raftkv.testing.cluster import SimulatedCluster
from raftkv.testing.network import Process
from raftkv.testing.transport import RemoteCall, call_process
from raftkv.testing.trouble import DrawnTrouble, chance_of_its_own

_CARE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ChurnSettings:
    """How restless the operator is.

    :ivar pause_seconds: mean time between two requests.
    :ivar weights: how often each kind comes, by the name of its method in :class:`Churn`.
    """

    pause_seconds: float
    weights: dict[str, float]


class Churn(DrawnTrouble):
    """Changes the members of one cluster; counts how often a request was granted or refused, too."""

    NUMBERED_FROM = 1000
    CALLED = "churn"
    KINDS = ("grow", "announce", "shrink", "shrink_leader", "replace", "promote", "demote", "reshuffle")

    def __init__(
        self,
        cluster: SimulatedCluster,
        *,
        random: random.Random,
        settings: ChurnSettings,
        without: Container[int] = (),
    ) -> None:
        super().__init__(
            cluster, random=random, pause_seconds=settings.pause_seconds, weights=settings.weights, without=without
        )
        self._of_joining = chance_of_its_own(random)
        self._joining: set[str] = set()

    def start(self) -> None:
        """Begin."""
        if self._weights:
            self._next()

    def end(self) -> None:
        """Ask for nothing new, but see to it that every member there is gets its machine."""
        super().end()
        self._take_care()

    def _take_care(self) -> None:
        cluster = self._cluster
        members = cluster.committed_configuration().members
        for name in sorted(members):
            if not members[name].incarnation and cluster.is_removed(name):
                cluster.wipe(name)  # it was added again by a request that came late: it has to come as a new machine
            if not cluster.is_installed(name) and cluster.nodes[name].is_fresh:
                self._join(name)
        cluster.clock.callLater(_CARE_SECONDS, self._take_care)

    # -- kinds ---------------------------------------------------------------------------------------------------

    def grow(self) -> None:
        """A machine joins; one that was removed comes back empty."""
        stranger = self._stranger()
        if stranger is not None:
            self._join(stranger)

    def announce(self) -> None:
        """A member is added before its machine asks; perhaps it never does."""
        stranger = self._stranger()
        if stranger is not None:
            self._ask({**_member(stranger), "role": self._random.choice(("voter", "learner"))})
            if self._random.random() < 0.7:
                self._cluster.clock.callLater(self._random.uniform(0.0, 2.0), self._join, stranger)

    def shrink(self) -> None:
        """Somebody is removed."""
        self._ask({"remove": [self._member()]})

    def shrink_leader(self) -> None:
        """The leader is removed."""
        self._ask({"remove": [self._cluster.leader() or self._member()]})

    def replace(self) -> None:
        """One leaves and another comes, in one change."""
        stranger = self._stranger()
        if stranger is not None:
            self._ask({"remove": [self._member()], "add": [_member(stranger)]})
            self._cluster.clock.callLater(self._random.uniform(0.0, 1.0), self._join, stranger)

    def promote(self) -> None:
        """Somebody is to be a voter."""
        self._ask({"promote": [self._member()]})

    def demote(self) -> None:
        """Somebody is to be a learner."""
        self._ask({"demote": [self._member()]})

    def reshuffle(self) -> None:
        """Everything at once."""
        members = sorted(self._cluster.committed_configuration().members)
        self._random.shuffle(members)
        document: dict[str, Any] = {"remove": [], "promote": [], "demote": []}
        for name in members[: self._random.randint(1, 3)]:
            document[self._random.choice(("remove", "promote", "demote"))].append(name)
        self._ask(document)

    # -- who -----------------------------------------------------------------------------------------------------

    def _member(self) -> str:
        return self._random.choice(sorted(self._cluster.committed_configuration().members))

    def _stranger(self) -> str | None:
        """Return a machine that is no member, emptied; ``None`` where there is none."""
        cluster = self._cluster
        members = cluster.committed_configuration().members
        strangers = [name for name in cluster.names if name not in members and name not in self._joining]
        if not strangers:
            return None
        name = self._random.choice(strangers)
        if not cluster.nodes[name].is_fresh:
            cluster.wipe(name)
        return name

    # -- requests ------------------------------------------------------------------------------------------------

    def _ask(self, document: dict[str, Any]) -> None:
        """Ask any process for a change, and do not care for the answer."""
        self._cluster.trace.note(f"ask {document}")

        def ask(process: Process, answer: Callable[[Any], None]) -> None:
            if process.node is not None:
                asked = process.node.change_members(document)
                asked.addErrback(lambda failure: failure.trap(RaftKVError) and failure.value)
                asked.addCallback(answer)

        self._call("admin", ask, self._answered, chance=self._random)

    def _answered(self, answer: Any) -> None:
        is_refused = isinstance(answer, RaftKVError)
        self._count("refused changes" if is_refused else "granted changes")
        self._cluster.trace.note(f"answer {answer!r}" if is_refused else "answer granted")

    def _join(self, name: str) -> None:
        """Let a machine with an empty disk ask until it is taken in."""
        cluster = self._cluster
        if name in self._joining or not cluster.nodes[name].is_fresh or cluster.is_installed(name):
            return
        disk = cluster.nodes[name].disk
        try:
            joined = load_joined(disk)
            if joined is None:
                joined = Joined(incarnation=f"{self._of_joining.getrandbits(128):032x}")
                store_joined(disk, joined)
        except StorageError:
            self._join_later(name)  # its process has ended, and was started again
            return
        self._joining.add(name)
        request = join_request(cluster.config(name), joined.incarnation)
        ask = partial(_ask_to_join, request)
        answered = partial(self._join_answered, name, request["incarnation"])
        self._call(name, ask, answered, chance=self._of_joining)

    def _join_answered(self, name: str, incarnation: str, answer: Any) -> None:
        cluster = self._cluster
        self._joining.discard(name)
        if isinstance(answer, RaftKVError):
            cluster.trace.note(f"{name} cannot join: {answer!r}")
            self._join_later(name)
            return
        try:
            store_joined(cluster.nodes[name].disk, joined_from(answer, incarnation))
        except StorageError:
            self._join_later(name)
            return
        self._count("joined")
        cluster.trace.note(f"{name} joined")
        cluster.start(name)

    def _join_later(self, name: str) -> None:
        self._cluster.clock.callLater(self._of_joining.uniform(0.1, 1.0), self._join, name)

    def _call(
        self,
        origin: str,
        ask: Callable[[Process, Callable[[Any], None]], None],
        answered: Callable[[Any], None],
        *,
        chance: random.Random,
    ) -> None:
        network = self._cluster.network
        to = chance.choice(sorted(network.processes) or self._cluster.names)
        RemoteCall(network, origin=origin, clock=None, to=to, ask=ask, answered=answered).depart()


def _ask_to_join(request: dict[str, Any], process: Process, answer: Callable[[Any], None]) -> None:
    call_process(process, "join", request, answer)


def _member(name: str) -> dict[str, Any]:
    return {"id": name, "raft_addr": f"{name}:8082", "rpc_addr": f"{name}:8081", "http_addr": f"{name}:8080"}


def draw_churn(chance: random.Random) -> tuple[int, ChurnSettings]:
    """Draw how many machines stand by, and what the operator does with them; every other run has none.

    :return: the number of machines besides the founders, and the settings.
    """
    if chance.random() < 0.5:
        return 0, ChurnSettings(pause_seconds=1.0, weights={})
    kinds = chance.sample(Churn.KINDS, chance.randint(2, len(Churn.KINDS)))
    settings = ChurnSettings(
        pause_seconds=chance.choice((0.5, 1.0, 2.0, 4.0)),
        weights={kind: chance.uniform(0.2, 1.0) for kind in sorted(kinds)},
    )
    return chance.choice((1, 2, 3)), settings
