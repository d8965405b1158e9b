"""The leader makes voters of the learners that are to be voters, as soon as they have caught up.

Who they are stands in the configuration itself (``promoting``), so that the next leader goes on where this one ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.logger import Logger

from raftkv.errors import Conflict, NotLeader, ProposalDropped
from raftkv.membership.directory import Directory
from raftkv.raft.configuration import Configuration
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role, SoftState

_ROUNDS = 2  # in a row; a single one could be a lull in the writes


class Promoter:
    """Watches how learners catch up; takes part in the driver's turn.

    Time is cut into rounds of one election timeout. A learner is close enough that has, in each of two rounds in a
    row, received everything that was committed when the round began (thesis 4.2.1): as a voter it could then not hold
    up a commitment for longer than an election would.

    :param wake: asks the driver for a turn.
    :param election_ticks: length of a round.
    """

    _log = Logger()

    def __init__(self, *, node: RaftNode, directory: Directory, wake: Callable[[], None], election_ticks: int) -> None:
        self._node = node
        self._directory = directory
        self._wake = wake
        self._election_ticks = election_ticks
        self._ticks = 0
        self._round_index = 0
        self._rounds: dict[tuple[str, str], int] = {}  # by name and incarnation: another disk begins anew (B24)

    def caught_up(self) -> frozenset[str]:
        """Return the learners that may become voters now: close to the leader, heard, and known by incarnation."""
        node = self._node
        if node.role is not Role.LEADER:
            return frozenset()
        progress, configuration = node.progress(), node.configuration
        return frozenset(
            name
            for name in configuration.learners
            if configuration.members[name].incarnation
            and self._rounds.get((name, configuration.members[name].incarnation), 0) >= _ROUNDS
            and name in progress
            and progress[name].ticks_since_contact < self._election_ticks
        )

    def soft_state_changed(self, state: SoftState) -> None:
        """A new leadership knows nothing of its learners."""
        self._rounds.clear()
        self._ticks = 0

    def tick(self) -> None:
        """End a round, once in an election timeout, and promote whoever has earned it."""
        if self._node.role is not Role.LEADER:
            return
        if self._ticks % self._election_ticks == 0:
            self._count_rounds(is_first=self._ticks == 0)
            self._promote()
        self._ticks += 1

    def _count_rounds(self, *, is_first: bool) -> None:
        progress, configuration = self._node.progress(), self._node.configuration
        for name in configuration.learners if not is_first else ():
            received = name in progress and progress[name].match_index >= self._round_index
            learner = (name, configuration.members[name].incarnation)
            self._rounds[learner] = self._rounds.get(learner, 0) + 1 if received else 0
        self._round_index = self._node.commit_index

    def _promote(self) -> None:
        configuration = self._node.configuration
        ready = configuration.promoting & self.caught_up()
        if not ready or configuration.is_joint:
            return
        try:
            self._node.propose_configuration(promoted(self._directory.renewed() or configuration, ready))
        except (Conflict, NotLeader, ProposalDropped) as reason:
            self._log.debug("{members} are promoted later: {reason}", members=sorted(ready), reason=reason)
        else:
            self._log.info("caught up, and promoted to voters: {members}", members=", ".join(sorted(ready)))
            self._wake()


def promoted(configuration: Configuration, names: frozenset[str]) -> Configuration:
    """Return a configuration in which these learners are voters."""
    return replace(
        configuration,
        voters=configuration.voters | names,
        learners=configuration.learners - names,
        promoting=configuration.promoting - names,
    )
