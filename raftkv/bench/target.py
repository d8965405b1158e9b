"""The cluster that is to be loaded: who leads it, at which addresses, and who leads it now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from raftkv.client import Cluster, Member, Status
from raftkv.client.sync import KVClient
from raftkv.errors import NoLeader, RaftKVError

Via = Literal["native", "http", "client"]

_LOOK_SECONDS: Final = 0.5


class NoAddress(Exception):
    """A member does not say where it can be asked; the message is for users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A cluster with its leader.

    :ivar leader: id of the node that is loaded.
    :ivar members: of the whole cluster.
    """

    cluster_id: str
    leader: str
    term: int
    members: tuple[Member, ...]

    def address(self, via: Via) -> str:
        """Return where the leader is asked.

        :raises NoAddress: it does not say.
        """
        member = next(each for each in self.members if each.id == self.leader)
        found = _address(member, via)
        if not found:
            raise NoAddress(
                f"{self.leader} leads, but the cluster does not know its {'HTTP' if via == 'http' else 'RPC'} address"
            )
        return found

    def others(self, via: Via) -> tuple[str, ...]:
        """Return where the other members are asked, as far as they say."""
        return tuple(found for each in self.members if each.id != self.leader and (found := _address(each, via)))


def target_of(cluster: Cluster) -> Target:
    """Return a cluster with its leader.

    :raises raftkv.errors.NoLeader: it has none.
    """
    known = {member.id for member in cluster.members}
    if cluster.leader is None or cluster.leader not in known:
        raise NoLeader
    return Target(cluster_id=cluster.cluster_id, leader=cluster.leader, term=cluster.term, members=cluster.members)


def _address(member: Member, via: Via) -> str:
    return member.http_addr if via == "http" else member.rpc_addr


class LeaderNews:
    """Tells a change of leader from what a node says of itself.

    A node that has been cut off may take a former leader for the present one; a later term is right (section 5.1).
    """

    def __init__(self, target: Target) -> None:
        self._target = target

    def hear(self, status: Status, ask: Callable[[], Cluster]) -> Target | None:
        """Return the cluster if another node leads it, or in another term, than was last known.

        :param ask: for the members, which may have changed as well.
        """
        if status.leader is None or status.term <= self._target.term:
            return None
        target = target_of(ask())
        if target.term <= self._target.term:
            return None
        self._target = target
        return target


class LeaderWatch:
    """Asks twice a second who leads, in a thread of its own.

    :param addresses: URLs of nodes.
    :param changed: called in that thread with the cluster, whenever another node leads it.
    """

    def __init__(self, addresses: Sequence[str], target: Target, changed: Callable[[Target], None]) -> None:
        self._client = KVClient(addresses, timeout=3.0, attempt_timeout=1.0)
        self._news = LeaderNews(target)
        self._changed = changed
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leader-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the end."""
        self._ends.set()
        self._client.close()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(_LOOK_SECONDS):
            try:
                target = self._news.hear(self._client.status(), self._client.cluster)
            except RaftKVError:
                continue  # nobody knows just now: the next look may tell
            if target is not None:
                self._changed(target)
