"""Exactly-once: what each client was answered, so that a write that is sent again is not applied again (B63).

A session keeps the answers of its last :data:`~raftkv.kvstore.commands.SESSION_WINDOW` sequence numbers, counted from
the largest one seen; they may arrive in any order. Its last write time is cluster time, out of the log, and sessions
are dropped by a command of the log alone, so that all nodes forget the same (B34, B40).

An answer is kept as one bytes object, fingerprint and packed answer: small, and invisible to the garbage collector,
which would otherwise visit a thousand tuples for each client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgpack
from google_crc32c import extend

from raftkv.kvstore import digest
from raftkv.kvstore.commands import (
    ANSWER_NOT_KEPT,
    FINGERPRINT_BYTES,
    MAX_KEPT_ANSWER_BYTES,
    PUT,
    SEQUENCE_REUSED,
    SESSION,
    SESSION_WINDOW,
    Command,
    Result,
)

_SEQUENCE_OFFSET = digest.SEQUENCE_OFFSET
_TOKEN_OFFSET = digest.TOKEN_OFFSET
_REAPED_AT_ONCE: Final = 8  # dropped sessions that are freed together: about half a millisecond if all are full

PackedSession = tuple[bytes, int, tuple[tuple[int, bytes], ...]]  #: client id, last write time, sequences and answers


class Session:
    """What is remembered of one client.

    :ivar token: the factor that stands for the client in the digest.
    :ivar last_write_ms: cluster time of the last command that came in this session.
    :ivar highest: the largest sequence number answered, -1 at first.
    :ivar answers: by sequence number, fingerprint followed by the packed answer; never more than the window.
    :ivar weight: the sum that the session counts in the digest, before it is multiplied with the token.
    """

    __slots__ = ("answers", "highest", "last_write_ms", "token", "weight")

    def __init__(self, token: int, last_write_ms: int) -> None:
        self.token = token
        self.last_write_ms = last_write_ms
        self.highest = -1
        self.answers: dict[int, bytes] = {}
        self.weight = digest.LAST_WRITE * last_write_ms

    def copy(self) -> Session:
        """Return one that stays as this one is now."""
        twin = Session(self.token, self.last_write_ms)
        twin.highest = self.highest
        twin.answers = self.answers.copy()
        twin.weight = self.weight
        return twin

    def packed(self, client_id: bytes) -> PackedSession:
        """Return the session as a snapshot holds it."""
        return client_id, self.last_write_ms, tuple(sorted(self.answers.items()))

    def _evict(self, highest: int) -> int:
        """Drop the answers that leave the window when it moves up to ``highest``; return their weight."""
        floor = highest - SESSION_WINDOW
        answers = self.answers
        moved = highest - self.highest
        gone: Iterable[int]
        if moved <= len(answers):
            gone = range(max(floor - moved, -1) + 1, floor + 1)
        else:
            gone = [sequence for sequence in answers if sequence <= floor]
        weight = 0
        for sequence in gone:
            kept = answers.pop(sequence, None)
            if kept is not None:
                weight += digest.answer_weight(sequence, kept)
        return weight


class Sessions:
    """All sessions, their sum in the digest, and what a snapshot under way still has to see of them.

    :ivar weight: sum over the sessions of token times weight.
    """

    __slots__ = ("_by_client", "_captured", "_dropped", "_pack", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self._by_client: dict[bytes, Session] = {}
        self._pack = msgpack.Packer().pack
        # While a snapshot is taken: the clients that it has not passed yet; the value is how the session was at the
        # moment of the snapshot, once somebody has changed it.
        self._captured: dict[bytes, Session | None] | None = None
        self._dropped: list[Session] = []

    def __len__(self) -> int:
        return len(self._by_client)

    def __contains__(self, client_id: bytes) -> bool:
        return client_id in self._by_client

    def touch(self, client_id: bytes, now_ms: int) -> Session:
        """Return a client's session, made where there is none, with ``now_ms`` as its last write time.

        Every command of a session goes through here before it changes anything of it. A repeat renews the session
        too: whoever repeats a write is still interested in its answer.

        :param now_ms: cluster time, never below that of an earlier call.
        """
        session = self._by_client.get(client_id)
        if session is None:
            session = self._by_client[client_id] = Session(digest.token(client_id), now_ms)
            self.weight += session.token * session.weight
            return session
        captured = self._captured
        if captured is not None and captured.get(client_id, session) is None:
            captured[client_id] = session.copy()
        if session.last_write_ms != now_ms:
            grown = digest.LAST_WRITE * (now_ms - session.last_write_ms)
            session.last_write_ms = now_ms
            session.weight += grown
            self.weight += session.token * grown
        return session

    def remember(self, session: Session, sequence: int, fingerprint: bytes, result: Result) -> None:
        """Keep the answer to a command that has just been applied, and forget what leaves the window.

        :param session: as :meth:`touch` returned it for the same command.
        """
        answer = self._pack(result)
        if len(answer) > MAX_KEPT_ANSWER_BYTES:
            answer = self._pack((ANSWER_NOT_KEPT, result[1]))  # only a transaction has such answers: its revision
        kept = fingerprint + answer
        grown = digest.answer_weight(sequence, kept)
        answers = session.answers
        if sequence > session.highest:
            if sequence >= SESSION_WINDOW and answers:
                grown -= session._evict(sequence)
            session.highest = sequence
        answers[sequence] = kept
        self._add(session, grown)

    def carry_out(
        self,
        commands: Sequence[Command],
        now_ms: int,
        *,
        put: Callable[[Command], Result],
        other: Callable[[Command], Result],
    ) -> list[Result]:
        """Carry out the commands of an entry, and return the answer to each.

        Nearly all commands of an entry that begins with a session are plain puts under the next number of one client:
        for those :meth:`touch` and :meth:`remember` are written out here, with one sum for a row of them.

        :param put: carries out a plain ``PUT``.
        :param other: carries out any other command, with its session if it comes in one.
        """
        results: list[Result] = []
        pack, present, session, grown = self._pack, None, None, 0
        for command in commands:
            if command[0] == SESSION:
                _, client_id, sequence, fingerprint, inner = command
                if session is None or client_id != present:
                    self._add(session, grown)
                    grown = 0
                    session, present = self.touch(client_id, now_ms), client_id
                if (
                    sequence == session.highest + 1
                    and type(sequence) is int
                    and len(fingerprint) == FINGERPRINT_BYTES
                    and len(inner) == 4
                    and inner[0] == PUT
                ):
                    result = put(inner)
                    results.append(result)
                    kept = fingerprint + pack(result)
                    grown += (sequence + _SEQUENCE_OFFSET) * (extend(0, kept) + _TOKEN_OFFSET)
                    answers, left = session.answers, sequence - SESSION_WINDOW
                    gone = answers.pop(left, None)
                    if gone is not None:
                        grown -= (left + _SEQUENCE_OFFSET) * (extend(0, gone) + _TOKEN_OFFSET)
                    answers[sequence] = kept
                    session.highest = sequence
                    continue
            self._add(session, grown)
            session, grown = None, 0
            results.append(other(command))
        self._add(session, grown)
        return results

    def _add(self, session: Session | None, grown: int) -> None:
        """Count in the digest what the answers of a session have become more by."""
        if session is not None:
            session.weight += grown
            self.weight += session.token * grown

    def idle_since(self, before_ms: int) -> int:
        """Return how many sessions had their last write before a cluster time."""
        return sum(session.last_write_ms < before_ms for session in self._by_client.values())

    def expire(self, before_ms: int) -> int:
        """Drop the sessions whose last write was before a cluster time; return how many."""
        idle = [item for item in self._by_client.items() if item[1].last_write_ms < before_ms]
        captured = self._captured
        for client_id, session in idle:
            if captured is not None and captured.get(client_id, session) is None:
                captured[client_id] = session
            del self._by_client[client_id]
            self.weight -= session.token * session.weight
            self._dropped.append(session)
        return len(idle)

    def reap(self) -> None:
        """Free the memory of some dropped sessions: thousands of full ones at once would be a pause."""
        if self._dropped:
            del self._dropped[-_REAPED_AT_ONCE:]

    def discard(self, limit: int) -> bool:
        """Free some sessions of a state that is no longer used; return whether more are left."""
        for _ in range(min(limit, len(self._by_client))):
            self._by_client.popitem()
        return bool(self._by_client)

    def restore(self, packed: PackedSession) -> None:
        """Add a session out of a snapshot.

        :raises ValueError: there is one of this client already, or the answers do not fit into a window.
        :raises TypeError: something is not of its type.
        """
        client_id, last_write_ms, answers = packed
        if client_id in self._by_client:
            raise ValueError(f"client {client_id!r} has two sessions")
        session = Session(digest.token(client_id), last_write_ms)
        for sequence, kept in answers:
            session.weight += digest.answer_weight(sequence, kept)
        session.answers = dict(answers)
        session.highest = max(session.answers, default=-1)
        if len(session.answers) != len(answers) or any(s <= session.highest - SESSION_WINDOW for s in session.answers):
            raise ValueError(f"the answers of client {client_id!r} do not fit into a window")
        self._by_client[client_id] = session
        self.weight += session.token * session.weight

    def capture(self) -> Iterator[PackedSession]:
        """Yield all sessions as they are now, by client id, however late they are drawn; one capture at a time.

        The moment is that of this call. :meth:`end_capture` must follow, whether all have been drawn or not.
        """
        captured: dict[bytes, Session | None] = dict.fromkeys(sorted(self._by_client))
        self._captured = captured
        return self._draw(captured)

    def end_capture(self) -> None:
        """Stop keeping what a capture would have to see."""
        self._captured = None

    def _draw(self, captured: dict[bytes, Session | None]) -> Iterator[PackedSession]:
        for client_id in list(captured):
            kept = captured.pop(client_id)
            yield (self._by_client[client_id] if kept is None else kept).packed(client_id)


def recall(kept: bytes, fingerprint: bytes) -> Result:
    """Return the answer that was given before, or that the sequence number was used for something else.

    :param kept: fingerprint and packed answer out of :attr:`Session.answers`.
    """
    if kept[:FINGERPRINT_BYTES] != fingerprint:
        return (SEQUENCE_REUSED,)
    answer: Result = msgpack.unpackb(kept[FINGERPRINT_BYTES:], use_list=False)
    return answer
