"""When a failed attempt may be followed by another one, where and how soon; and what to say when none may.

Sans-I/O: time and chance are handed in, nothing is sent here. Every flavour of the client, over HTTP and over RPC,
asks a :class:`Call` after each attempt what to do next, so that the rules exist once:

- An attempt that certainly did not take effect may always be repeated. One that may have been received may be
  repeated only where the repetition is harmless: a read, or a write that carries its sequence number (B63).
- Another address is tried at once; the same one only after a back-off that grows and is drawn at random, and not
  before a ``Retry-After`` has passed. An overloaded cluster is left alone altogether for that long.
- There is one deadline for the whole call, far below the life of a session at the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from raftkv.client.results import NotReached, UnexpectedAnswer
from raftkv.client.route import Route
from raftkv.errors import (
    AnswerNotKept,
    Compacted,
    Conflict,
    FutureRevision,
    LeaseNotFound,
    LockHeld,
    LockNotHeld,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    PreconditionFailed,
    RaftKVError,
    RequestTimeout,
    SequenceTooOld,
)

# A session lives for an hour after its last write; a repetition after that would be applied a second time.
MAX_TIMEOUT_SECONDS: Final = 600.0
# What the state machine itself answers to a write, and keeps for a repeat of it.
_ANSWERS_OF_THE_LOG: Final = (
    PreconditionFailed,
    SequenceTooOld,
    Conflict,
    LeaseNotFound,
    LockHeld,
    LockNotHeld,
    Compacted,
    FutureRevision,
)
_RETRIED_STATUSES: Final = frozenset({502, 503, 504})  # what a proxy in between says while a node is away


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient a client is.

    :ivar timeout_seconds: for a whole call, with all its attempts and waits.
    :ivar attempt_timeout_seconds: for one attempt, so that a node that hangs does not use up the call.
    :ivar first_backoff_seconds: the upper bound of the wait before the second attempt at one address.
    :ivar max_backoff_seconds: what the bound doubles up to.
    """

    timeout_seconds: float = 10.0
    attempt_timeout_seconds: float = 3.0
    first_backoff_seconds: float = 0.05
    max_backoff_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.timeout_seconds <= MAX_TIMEOUT_SECONDS:
            raise ValueError(
                f"timeout: found {self.timeout_seconds!r}, expected more than 0 and at most {MAX_TIMEOUT_SECONDS:g} "
                "seconds (servers forget a client's writes after an hour)"
            )
        if not self.attempt_timeout_seconds > 0:
            raise ValueError(f"attempt_timeout: found {self.attempt_timeout_seconds!r}, expected more than 0 seconds")

    def backoff_seconds(self, failures: int, random: Random) -> float:
        """Draw the wait after so many failures (from 1) at one address: between half the bound and all of it."""
        doublings = min(failures - 1, 32)  # the power of a long outage is no number to compute
        bound = min(self.first_backoff_seconds * 2.0**doublings, self.max_backoff_seconds)
        return bound * (0.5 + 0.5 * random.random())


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What to try now.

    :ivar timeout_seconds: how long this attempt may take.
    """

    address: str
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Again:
    """Begin another attempt after so many seconds (0: at once)."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Raise this to the caller."""

    error: RaftKVError


def worth_retrying(error: RaftKVError) -> bool:
    """Tell whether the same request may fare better a little later or elsewhere."""
    if isinstance(error, UnexpectedAnswer):
        return error.status in _RETRIED_STATUSES
    return isinstance(error, NoLeader | NotReached | Overloaded | RequestTimeout | OutcomeUnknown)


class Call:
    """One call of the user's, from its first attempt to its last.

    :param description: what the call is, for messages, such as ``"PUT /v1/kv/a"``.
    :param is_write: whether it may take effect at all.
    :param repeatable: whether it does no harm to send it again after it may have been received.
    :param prefer_leader: whether the leader answers it best.
    :param started: when the call began; waiting for a turn counts.
    :param timeout_seconds: for the whole call, with all its attempts and waits; ``None`` is the policy's.
    :param attempt_timeout_seconds: for one attempt; ``None`` is the policy's.
    :ivar deadline: when it ends, on the clock of ``started``.
    """

    def __init__(
        self,
        description: str,
        *,
        route: Route,
        policy: RetryPolicy,
        random: Random,
        is_write: bool,
        repeatable: bool,
        prefer_leader: bool,
        started: float,
        timeout_seconds: float | None = None,
        attempt_timeout_seconds: float | None = None,
    ) -> None:
        self._timeout_seconds = policy.timeout_seconds if timeout_seconds is None else timeout_seconds
        self._attempt_timeout_seconds = (
            policy.attempt_timeout_seconds if attempt_timeout_seconds is None else attempt_timeout_seconds
        )
        self.deadline = started + self._timeout_seconds
        self._description = description
        self._route = route
        self._policy = policy
        self._random = random
        self._is_write = is_write
        self._repeatable = repeatable
        self._prefer_leader = prefer_leader
        self._attempts = 0
        self._failures: dict[str, int] = {}  # by address
        self._resting_until: dict[str, float] = {}  # by address
        self._maybe_received = False  # an earlier or the present attempt may have reached a server
        self._last_error: RaftKVError | None = None
        self._address = ""

    def attempt(self, now: float) -> Attempt | GiveUp:
        """Begin an attempt, unless the time is over.

        Asked again before each one: timers of a machine that slept, or whose clock was set, come late, and a write
        that is sent again after its session has ended would be applied twice.
        """
        if now >= self.deadline:
            return GiveUp(self.timed_out())
        address = self._route.choose(
            now, prefer_leader=self._prefer_leader, may_ask=lambda address: self._resting_until.get(address, now) <= now
        )
        self.attempted(address)
        return Attempt(
            address=address,
            timeout_seconds=min(self._attempt_timeout_seconds, self.deadline - now),
        )

    def renew(self, now: float) -> None:
        """Begin anew, as a call that has not failed yet, except for where it is."""
        self.deadline = now + self._timeout_seconds
        self._attempts = 1
        self._failures.clear()
        self._resting_until.clear()
        self._maybe_received = False
        self._last_error = None

    def attempted(self, address: str) -> None:
        """Note an attempt at an address that was not chosen here: that of a connection which all calls share."""
        self._attempts += 1
        self._address = address

    def failed(self, now: float, error: RaftKVError, *, maybe_received: bool) -> Again | GiveUp:
        """Decide what follows a failed attempt.

        :param error: what the server said, or what broke.
        :param maybe_received: whether this attempt may have taken effect or may yet.
        """
        self._maybe_received |= maybe_received and self._is_write
        self._last_error = error
        if not worth_retrying(error):
            return GiveUp(self._final(error))
        self._rest(now, error)
        if self._maybe_received and not self._repeatable:
            return GiveUp(self._final(error))
        resume = min(
            self._resting_until.get(address, now)
            for address in self._route.candidates(now, prefer_leader=self._prefer_leader)
        )
        if resume >= self.deadline:
            return GiveUp(self.timed_out())
        return Again(max(0.0, resume - now))

    def timed_out(self, *, under_way: bool = False, unconnected: NotReached | None = None) -> RequestTimeout:
        """Make the error for a call whose time is over.

        :param under_way: whether an attempt is being made just now, so that it may have been received.
        :param unconnected: why there is no connection, where that is known apart from the attempts; with its address.
        """
        self._maybe_received |= under_way and self._is_write
        message = f"{self._description}: no success within {self._timeout_seconds:g} s"
        if self._attempts == 0:
            message += "; it was never sent"
        else:
            message += f" and {self._attempts} attempt{'s' if self._attempts > 1 else ''}"
        if self._last_error is not None:
            message += f"; the last one, at {self._address}: {self._last_error}"
        elif unconnected is not None:
            message += f"; no connection to {unconnected}"
        timeout = RequestTimeout(message, "unknown" if self._maybe_received else "not_applied")
        timeout.__cause__ = self._last_error or unconnected
        return timeout

    def abandoned(self, *, under_way: bool, otherwise: RaftKVError) -> RaftKVError:
        """Make the error for a call that the client itself gives up.

        :param under_way: whether an attempt is being made just now.
        :param otherwise: what to say where nothing was ever received.
        """
        if self._is_write and (under_way or self._maybe_received):
            error = OutcomeUnknown(f"{self._description}: given up after it was sent ({otherwise})")
            error.__cause__ = otherwise
            return error
        return otherwise

    def _rest(self, now: float, error: RaftKVError) -> None:
        address = self._address
        self._failures[address] = failures = self._failures.get(address, 0) + 1
        wait = max(self._policy.backoff_seconds(failures, self._random), error.retry_after_seconds or 0.0)
        if isinstance(error, Overloaded):
            # Every node forwards to the same leader: asking the next one would only go around the request to wait.
            for other in self._route.candidates(now, prefer_leader=True):
                self._resting_until[other] = now + wait
            return
        self._resting_until[address] = now + wait
        self._route.failed(address, now)

    def _final(self, error: RaftKVError) -> RaftKVError:
        """Make sure that an error does not promise more than is known of the attempts before it."""
        if not self._maybe_received or error.outcome == "unknown":
            return error
        if isinstance(error, AnswerNotKept):
            # To the server this was a repeat, which did nothing; the caller's write is the one that was applied.
            error.outcome = "unknown"
            return error
        if isinstance(error, _ANSWERS_OF_THE_LOG):
            return error  # the answer of this very write, whichever attempt brought it there
        honest = OutcomeUnknown(
            f"{self._description}: an earlier attempt was lost after it was sent, and may have taken effect; "
            f"the last one, at {self._address}: {error}"
        )
        honest.__cause__ = error
        return honest
