"""The way from a request to the store and back: what all reads share, and what all writes share.

A read waits for a barrier of the consistency that it asks for. A write may bear a lock, while whose token holds it is
carried out (``X-Lock``), and a session, in which it is applied once (``X-Client-Id``, ``X-Request-Seq``); the session
stands outside, so that a repeat gets the first answer also where that was a refusal by the lock.

Callback style: no Deferred and no coroutine for each request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from raftkv.errors import BadRequest, InvariantViolation, RaftKVError
from raftkv.interfaces import Command, IKeyValue, Result
from raftkv.kvstore import commands
from raftkv.kvstore.checking import CommandChecker
from raftkv.kvstore.commands import OK
from raftkv.kvstore.refusals import refusal_of
from raftkv.web.exchange import Answer, Exchange, Headers
from raftkv.web.failures import fail
from raftkv.web.parameters import consistency_of, lock_of, max_stale_of, refuse_conditions, session_of
from raftkv.web.queries import Parameters
from raftkv.web.settings import WebSettings

if TYPE_CHECKING:
    from raftkv.kvstore.reading import Reader

Render = Callable[[Result], Answer]


class Access:
    """The store as the endpoints use it.

    :ivar key_value: the store itself.
    :ivar settings: the bounds that are kept.
    :ivar limits: those of commands.
    """

    def __init__(self, key_value: IKeyValue, settings: WebSettings) -> None:
        self.key_value = key_value
        self.settings = settings
        self.limits = replace(
            settings.commands, max_key_bytes=settings.max_key_bytes, max_value_bytes=settings.max_value_bytes
        )
        self._check = CommandChecker(self.limits).check

    # -- reads ------------------------------------------------------------------------------------------------------

    def read(self, exchange: Exchange, parameters: Parameters, serve: Callable[[Reader], Answer | None]) -> None:
        """Answer a read.

        :param parameters: ``consistency`` and ``max_stale`` of them are used.
        :param serve: makes the answer of a state that may be read, at once; ``None`` where it has seen to it itself.
            What it raises is answered as the error that it is.
        """
        consistency = consistency_of(parameters)
        max_stale = max_stale_of(parameters, consistency)

        def readable(error: RaftKVError | None) -> None:
            staleness: Headers = ()
            # Whatever goes wrong here is this request's matter, not that of whoever called us back.
            try:
                if error is not None:
                    raise error
                if consistency == "stale":
                    staleness = staleness_header(self.key_value.staleness())
                answer = serve(self.key_value.state())
                if answer is not None:
                    exchange.answer(answer._replace(headers=answer.headers + staleness) if staleness else answer)
            except Exception as problem:
                fail(exchange, problem, staleness)

        self.key_value.barrier(consistency, readable, max_stale_seconds=max_stale)

    # -- writes -----------------------------------------------------------------------------------------------------

    def write(self, exchange: Exchange, command: Command, render: Render) -> None:
        """Have a command carried out, and answer with what ``render`` makes of its result.

        :raises BadRequest: the command may not be; likewise :exc:`TooLarge`. Nothing was proposed then.
        """
        refuse_conditions(exchange.headers)
        self._check(command)
        self.write_checked(exchange, command, render)

    def write_checked(self, exchange: Exchange, command: Command, render: Render) -> None:
        """Likewise, for a command that is known to be one that may be, of a request that may bear conditions."""
        whole = self._wrapped(exchange, command)

        def written(outcome: Sequence[Result] | RaftKVError) -> None:
            try:
                if isinstance(outcome, RaftKVError):
                    raise outcome
                (result,) = outcome
                exchange.answer(render(result) if result[0] == OK else _refused(whole, result))
            except Exception as problem:
                fail(exchange, problem)

        self.key_value.write((whole,), written)

    def acquire(self, exchange: Exchange, command: Command, render: Render) -> None:
        """Have a lock taken, however long that may wait; a client that goes away gives up its place.

        :raises BadRequest: as for :meth:`write`.
        """
        refuse_conditions(exchange.headers)
        self._check(command)
        whole = self._wrapped(exchange, command)

        def settled(outcome: Result | RaftKVError) -> None:
            try:
                if isinstance(outcome, RaftKVError):
                    raise outcome
                exchange.answer(render(outcome) if outcome[0] == OK else _refused(whole, outcome))
            except Exception as problem:
                fail(exchange, problem)

        exchange.when_abandoned(self.key_value.acquire(whole, settled))

    def _wrapped(self, exchange: Exchange, command: Command) -> Command:
        headers = exchange.headers
        if b"x-lock" in headers:
            if command[0] == commands.FENCED:
                raise BadRequest("X-Lock: the write depends on the lock of its token already")
            command = commands.fenced(*lock_of(headers, self.settings.max_key_bytes), command)
        session = session_of(headers)
        if session is not None:
            command = commands.in_session(session[0], session[1], command)
        exchange.body = b""  # the command has what it needs of it
        return command


def _refused(command: Command, result: Result) -> NoReturn:
    refusal = refusal_of(command, result)
    raise refusal if refusal is not None else InvariantViolation(f"{result!r} is no refusal")


def staleness_header(seconds: float | None) -> Headers:
    """Return the header that says how old the state is that was read; rounded up, for it is a bound."""
    value = b"unknown" if seconds is None else b"%.3f" % (math.ceil(seconds * 1000) / 1000)
    return ((b"X-Raft-Staleness", value),)
