"""Linearizable reads without a log entry: ReadIndex (section 8, thesis 6.4).

Knows which reads share which round of confirmation; who sends the heartbeats of a round and counts their echoes is
the leader's business. A read that arrives while a round is under way cannot use it, since that round may prove a
leadership that ended before the read began: it shares the next one with all others that wait.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who asked for a read index.

    :ivar peer: the follower that asked, or ``None`` for this very node.
    :ivar context: the number under which the reader knows its request.
    """

    peer: str | None
    context: int


class ReadRounds:
    """The rounds of one leadership.

    :ivar number: the newest round that was started; its echo by a majority confirms all rounds up to it.
    """

    def __init__(self) -> None:
        self.number = 0
        self._index: int | None = None
        self._current: dict[Reader, None] = {}
        self._waiting: dict[Reader, None] = {}

    @property
    def under_way(self) -> bool:
        """Whether a round waits for its confirmation."""
        return self._index is not None

    @property
    def wanted(self) -> bool:
        """Whether a round should be started."""
        return bool(self._waiting) and not self.under_way

    def add(self, reader: Reader) -> None:
        """Let a read wait for the next round; asking twice is asking once."""
        self._waiting[reader] = None

    def start(self, commit_index: int) -> None:
        """Start a round for all that wait.

        :param commit_index: the leader's, by which it has committed an entry of its own term (B29).
        """
        self.number += 1
        self._index = commit_index
        self._current, self._waiting = self._waiting, {}

    def confirmed(self) -> tuple[int, list[Reader]]:
        """End the round: return the read index and whom it is for."""
        index, readers = self._index or 0, list(self._current)
        self._index = None
        self._current = {}
        return index, readers

    def abandon(self) -> list[Reader]:
        """End everything: return all who still wait."""
        readers = [*self._current, *self._waiting]
        self._index = None
        self._current, self._waiting = {}, {}
        return readers


class ForwardedReads:
    """The reads of a follower: one request to the leader at a time, each for all that gathered before it.

    :ivar number: number of the newest request.
    """

    def __init__(self, *, first_number: int, retry_ticks: int) -> None:
        """
        :param first_number: drawn by chance, so that a late answer to the requests of an earlier run fits none of ours.
        :param retry_ticks: how long to wait before a request is sent again; it or its answer may have been lost.
        """
        self.number = first_number
        self._retry_ticks = retry_ticks
        self._elapsed_ticks = 0
        self._asked: list[int] = []
        self._waiting: list[int] = []
        self._send_again = False
        self._lease_will_do = True
        self._asked_lease_will_do = True

    @property
    def wanted(self) -> bool:
        """Whether a request should be sent."""
        return self._send_again or (bool(self._waiting) and not self._asked)

    def add(self, context: int, *, lease: bool = False) -> None:
        """Let a read wait for the next request.

        :param lease: whether the leader's lease will do; a request that is for one read for which it will not, asks
            for a round.
        """
        self._waiting.append(context)
        self._lease_will_do = self._lease_will_do and lease

    def request(self) -> tuple[int, bool]:
        """Return the request to send now: a new one for all that wait, or the last one again.

        :return: its number, and whether the leader's lease will do.
        """
        if not self._asked:
            self.number += 1
            self._asked, self._waiting = self._waiting, []
            self._asked_lease_will_do, self._lease_will_do = self._lease_will_do, True
        self._elapsed_ticks = 0
        self._send_again = False
        return self.number, self._asked_lease_will_do

    def tick(self) -> None:
        """Count one tick."""
        self._elapsed_ticks += 1
        self._send_again = bool(self._asked) and self._elapsed_ticks >= self._retry_ticks

    def answered(self, number: int) -> list[int]:
        """Return the reads that an answer is for; none for a late one."""
        if number != self.number:
            return []
        contexts, self._asked = self._asked, []
        self._send_again = False
        return contexts

    def abandon(self) -> list[int]:
        """End everything: return all reads that still wait."""
        contexts = self._asked + self._waiting
        self._asked, self._waiting = [], []
        self._send_again = False
        self._lease_will_do = True
        return contexts
