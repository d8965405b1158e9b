"""What the members said of their states, and what a majority says: the arithmetic of the state digest.

A note is the digest of one member's state at one index of the log. State machines that apply the same log are equal at
equal indexes, so that notes may be compared only there; whoever differs from a majority of the voters is wrong. Two
majorities share a member, so that there is never more than one right digest at an index, and no member of a majority is
ever in a minority. Knows names, indexes and digests; what follows from a verdict is the business of ``fence``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from raftkv.raft.quorum import has_quorum

NOTE_INTERVAL: Final = 1024  #: indexes between two notes: nodes with different ones would have little to compare
KEPT_NOTES: Final = 64  #: of each member


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How our own state stands against the others'.

    :ivar index: the latest index at which there is a note of our own, and a digest of a majority; 0 for none.
    :ivar agrees: whether they are equal.
    :ivar tied_index: the latest index at which voters differ without a majority for any digest, where nothing later is
        settled; 0 for none.
    """

    index: int = 0
    agrees: bool = False
    tied_index: int = 0


class Notes:
    """The latest notes of all members, as one of them knows them.

    :param own: our member id.
    :param kept: how many are kept of each member.
    """

    def __init__(self, own: str, *, kept: int = KEPT_NOTES) -> None:
        self._own = own
        self._kept = kept
        self._digests: dict[str, dict[int, str]] = {own: {}}

    def note(self, member: str, index: int, digest: str) -> None:
        """Take a member's note; a later one for the same index replaces it, for its state may have been replaced."""
        digests = self._digests.setdefault(member, {})
        digests[index] = digest
        if len(digests) > self._kept:
            del digests[min(digests)]

    def digest_at(self, member: str, index: int) -> str | None:
        """Return what a member noted at an index."""
        return self._digests.get(member, {}).get(index)

    def newest(self) -> int:
        """Return the index of our own latest note, 0 where there is none."""
        return max(self._digests[self._own], default=0)

    def start_over(self) -> None:
        """Forget our own notes: the state has come from elsewhere, and is to be judged anew."""
        self._digests[self._own] = {}

    def keep_only(self, members: Collection[str]) -> None:
        """Forget those who are no members any more."""
        for member in self._digests.keys() - members - {self._own}:
            del self._digests[member]

    def judge(self, voters: Collection[str], outgoing: Collection[str]) -> Verdict:
        """Compare our own state with that of a majority.

        Learners are judged and have no vote. Under a joint configuration a majority of either side has to agree.

        :param outgoing: the voters of the old side of a joint configuration; empty otherwise.
        """
        tied_index = 0
        is_settled = False
        own = self._digests[self._own]
        for index in self._indexes(voters, outgoing):
            holders = self._holders(index, voters, outgoing)
            right = next((digest for digest, who in holders.items() if has_quorum(voters, outgoing, who)), None)
            if right is None:
                if len(holders) > 1 and not is_settled and not tied_index:
                    tied_index = index
                continue
            is_settled = True
            if index in own:
                return Verdict(index=index, agrees=own[index] == right, tied_index=tied_index)
        return Verdict(tied_index=tied_index)

    def disputed(self, voters: Collection[str], outgoing: Collection[str]) -> int:
        """Return the latest index at which voters differ, 0 where a majority agrees behind it and nobody differs."""
        for index in self._indexes(voters, outgoing):
            holders = self._holders(index, voters, outgoing)
            if len(holders) > 1:
                return index
            if any(has_quorum(voters, outgoing, who) for who in holders.values()):
                return 0
        return 0

    def _indexes(self, voters: Collection[str], outgoing: Collection[str]) -> Iterator[int]:
        names = {*voters, *outgoing}
        return iter(sorted({i for name in names for i in self._digests.get(name, ())}, reverse=True))

    def _holders(self, index: int, voters: Collection[str], outgoing: Collection[str]) -> dict[str, set[str]]:
        holders: dict[str, set[str]] = {}
        for name in {*voters, *outgoing}:
            digest = self.digest_at(name, index)
            if digest is not None:
                holders.setdefault(digest, set()).add(name)
        return holders
