"""Which address to ask: the leader's where it is known, else the next one that has not just failed.

Shared by all calls of a client, over HTTP and over RPC alike. Knows addresses as text and what answers said of the
leader; time is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

SHUNNED_SECONDS: Final = 3.0  #: how long an address that failed is taken only where nothing else is left


class Route:
    """The addresses of a cluster in the order in which they should be tried.

    :param addresses: those that the user gave, at least one; only these are rotated through.
    :param follow_leader: whether an address that a server names as the leader's may be asked although the user did
        not give it. Where nodes advertise addresses that clients cannot reach, it should not.
    """

    def __init__(self, addresses: Sequence[str], *, follow_leader: bool = True) -> None:
        if not addresses:
            raise ValueError("at least one address is needed")
        self.addresses = tuple(dict.fromkeys(addresses))
        self._follow_leader = follow_leader
        self._current = 0
        self._leader: str | None = None
        self._leader_term = 0
        self._shunned: dict[str, float] = {}

    @property
    def leader(self) -> str | None:
        """The address that the newest word gives for the leader, or ``None``."""
        return self._leader

    def candidates(self, now: float, *, prefer_leader: bool) -> list[str]:
        """Return every address worth trying, best first; never empty."""
        ordered = [*self.addresses[self._current :], *self.addresses[: self._current]]
        if self._leader is not None and prefer_leader:
            ordered = [self._leader, *(address for address in ordered if address != self._leader)]
        # Python's sort is stable: those that failed of late go to the end and keep their order.
        return sorted(ordered, key=lambda address: self._shunned.get(address, now) > now)

    def choose(self, now: float, *, prefer_leader: bool, may_ask: Callable[[str], bool] = lambda _: True) -> str:
        """Return the best address that may be asked; the best of all where none may."""
        candidates = self.candidates(now, prefer_leader=prefer_leader)
        return next(filter(may_ask, candidates), candidates[0])

    def heard(self, address: str, *, leader: str | None, term: int) -> None:
        """Take in what an answer said of the leader.

        A node behind a partition may go on naming a leader of the past, so the highest term has the word; but what
        the leader's own address says of itself counts always, else a cluster that starts anew at term 1 behind the
        same addresses would never be believed.

        :param address: who answered.
        :param leader: the address that it names, or ``None`` where it knows of none.
        :param term: the answerer's term, 0 where it did not say.
        """
        self._shunned.pop(address, None)
        if term < self._leader_term and address != self._leader:
            return
        if leader is not None and not self._follow_leader and leader not in self.addresses:
            leader = None
        self._leader = leader
        self._leader_term = term

    def failed(self, address: str, now: float) -> None:
        """Take in that an address did not answer, or cannot serve now: others are to be tried first."""
        self._shunned = {other: until for other, until in self._shunned.items() if until > now}
        self._shunned[address] = now + SHUNNED_SECONDS
        if address == self._leader:
            self._leader = None
            self._leader_term = 0
        # Many calls may fail at one address at once: only the first of them turns the rotation.
        if address == self.addresses[self._current]:
            self._current = (self._current + 1) % len(self.addresses)
