"""The client without a network: one HTTP call from the first request to the result, as values in and values out.

An :class:`HTTPCall` says what to send, is told what came back or what broke, and says what is next: the result, an
error, or another attempt. It brings together the operation (what to ask), the session (under which number), the route
(whom) and the rules of retrying (how often, and how soon). Flavours of the client differ only in how they send, wait
and hand over the result; none of them decides anything.

:class:`Core` is what all calls of one client share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Final, Generic, TypeVar

from raftkv.client.addresses import leader_address, parse_addresses
from raftkv.client.answers import Answer
from raftkv.client.operations import Operation
from raftkv.client.results import ClientClosed, NotReached
from raftkv.client.retry import Again, Call, GiveUp, RetryPolicy
from raftkv.client.route import Route
from raftkv.client.session import Session
from raftkv.errors import KeyNotFound, Outcome, OutcomeUnknown, RaftKVError, RequestTimeout

T = TypeVar("T")

_ATTEMPTS: Final = 3  # for which there is to be time in a call that has little


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A request to make now.

    :ivar timeout_seconds: how long its answer may take, from connecting to the last byte of the body.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Finished(Generic[T]):
    """The call is over, and this is its result."""

    value: T


class Core:
    """What the calls of one client share: where to ask, under which id, and how patiently.

    :param addresses: see :func:`parse_addresses`.
    :param policy: how patient the client is.
    :param follow_leader: whether servers may name addresses that the user did not give.
    :param random: for the back-off.
    :param entropy: gives random bytes for the client id.
    """

    def __init__(
        self,
        addresses: str | Iterable[str],
        *,
        policy: RetryPolicy,
        follow_leader: bool,
        random: Random,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.route = Route(parse_addresses(addresses), follow_leader=follow_leader)
        self.session = Session(entropy=entropy)
        # One that waits for a lock would, in the same row of numbers, hold up every write of the client.
        self.waiting_session = Session(entropy=entropy)
        self.policy = policy
        self.random = random

    def call(
        self,
        operation: Operation[T],
        *,
        now: float,
        none_if_missing: bool = False,
        timeout_seconds: float | None = None,
    ) -> HTTPCall[T]:
        """Begin a call.

        :param now: on the clock that all times of the call are told by; it must not go backwards.
        :param none_if_missing: whether a key that does not exist gives ``None`` instead of an error.
        :param timeout_seconds: for the whole call; ``None`` is what the client has for all, and what the operation
            waits for on purpose.
        """
        attempt_seconds = self.policy.attempt_timeout_seconds + operation.wait_seconds
        if timeout_seconds is None:
            timeout_seconds = self.policy.timeout_seconds + operation.wait_seconds
        else:
            attempt_seconds = min(attempt_seconds, timeout_seconds / _ATTEMPTS)
        return HTTPCall(
            self,
            operation,
            none_if_missing=none_if_missing,
            timeout_seconds=timeout_seconds,
            attempt_timeout_seconds=attempt_seconds,
            now=now,
        )


def make_core(
    addresses: str | Iterable[str],
    *more_addresses: str,
    timeout: float,
    attempt_timeout: float,
    follow_leader: bool,
    random: Random | None,
    entropy: Callable[[int], bytes],
) -> Core:
    """Make the core of a client from what its user gives.

    :raises ValueError: an address or a number that makes no sense, named.
    """
    first = [addresses] if isinstance(addresses, str) else addresses
    return Core(
        [*first, *more_addresses],
        policy=RetryPolicy(timeout_seconds=timeout, attempt_timeout_seconds=attempt_timeout),
        follow_leader=follow_leader,
        random=SystemRandom() if random is None else random,
        entropy=entropy,
    )


class HTTPCall(Generic[T]):
    """One operation on its way. Made by :meth:`Core.call`.

    The order of calls: :meth:`admit` until it agrees, then :meth:`send`, then :meth:`answered` or :meth:`broke`, then
    by their answer :meth:`send` again or nothing; :meth:`end` whatever happened.

    :ivar deadline: when the call ends; whoever waits for :meth:`admit` or sleeps must wake up by then.
    """

    def __init__(
        self,
        core: Core,
        operation: Operation[T],
        *,
        none_if_missing: bool,
        timeout_seconds: float,
        attempt_timeout_seconds: float,
        now: float,
    ) -> None:
        self._core = core
        self._operation = operation
        self._session = core.waiting_session if operation.wait_seconds else core.session
        self._none_if_missing = none_if_missing
        self._sequence: int | None = None
        self._address = ""
        self._retries = Call(
            operation.description,
            route=core.route,
            policy=core.policy,
            random=core.random,
            is_write=operation.is_write,
            repeatable=operation.is_repeatable,
            prefer_leader=operation.prefer_leader,
            started=now,
            timeout_seconds=timeout_seconds,
            attempt_timeout_seconds=attempt_timeout_seconds,
        )
        self.deadline = self._retries.deadline

    @property
    def queues(self) -> bool:
        """Whether it waits for its turn."""
        return self._operation.queues

    def admit(self) -> bool:
        """Take what the call needs before it may be sent; ``False`` while the window of numbers is full."""
        if self._operation.sessioned and self._sequence is None:
            self._sequence = self._session.take()
            return self._sequence is not None
        return True

    def send(self, now: float) -> Send | GiveUp:
        """Return the request to make now."""
        attempt = self._retries.attempt(now)
        if isinstance(attempt, GiveUp):
            return attempt
        self._address = attempt.address
        operation = self._operation
        headers = dict(operation.headers)
        if self._sequence is not None:
            headers["X-Client-Id"] = self._session.client_id
            headers["X-Request-Seq"] = str(self._sequence)
        return Send(
            method=operation.method,
            url=attempt.address + operation.target,
            headers=headers,
            body=operation.body,
            timeout_seconds=attempt.timeout_seconds,
        )

    def answered(self, now: float, answer: Answer) -> Finished[T | None] | Again | GiveUp:
        """Take in a whole answer."""
        self.heard(answer.headers)
        try:
            return Finished(self._operation.interpret(answer))
        except KeyNotFound as error:
            return Finished(None) if self._none_if_missing else GiveUp(error)
        except RaftKVError as error:
            return self._retries.failed(now, error, maybe_received=error.outcome == "unknown")

    def broke(self, now: float, reason: str, *, maybe_received: bool) -> Again | GiveUp:
        """Take in that there was no answer.

        :param reason: what broke, for messages.
        :param maybe_received: ``False`` only where certainly no byte of the request reached a server.
        """
        error = OutcomeUnknown(reason) if maybe_received else NotReached(reason)
        return self._retries.failed(now, error, maybe_received=maybe_received)

    def timed_out(self, now: float) -> Again | GiveUp:
        """Take in that the attempt's time was over before an answer had come."""
        outcome: Outcome = "unknown" if self._operation.is_write else "not_applied"
        return self._retries.failed(now, RequestTimeout("no answer in time", outcome), maybe_received=True)

    def too_late(self) -> RequestTimeout:
        """Make the error for a call whose deadline passed while it waited."""
        return self._retries.timed_out()

    def abandoned(self, *, under_way: bool) -> RaftKVError:
        """Make the error for a call that is pending when the client is closed."""
        return self._retries.abandoned(under_way=under_way, otherwise=ClientClosed())

    def end(self) -> None:
        """Give back what :meth:`admit` took; nothing may be sent after that."""
        if self._sequence is not None:
            self._session.give_back(self._sequence)
            self._sequence = None

    def ask(self, operation: Operation[T]) -> None:
        """Ask something else from now on, such as the rest of what broke off."""
        self._operation = operation

    def renew(self, now: float) -> None:
        """Begin anew in time and patience, since there was a success; what breaks next is the first thing to break."""
        self._retries.renew(now)
        self.deadline = self._retries.deadline

    def heard(self, headers: Mapping[str, str]) -> None:
        """Take in what the head of an answer says of the leader."""
        if "x-raft-leader" not in headers:
            return  # not from a node: something in between answered
        term = headers.get("x-raft-term", "")
        self._core.route.heard(
            self._address,
            leader=leader_address(headers["x-raft-leader"], asked=self._address),
            term=int(term) if term.isascii() and term.isdigit() else 0,
        )
