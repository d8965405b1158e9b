"""What the native client asks for: a row of commands or keys that travel together, or a call that needs no numbers.

Knows how far it has got; sending it, repeating it and ending it is the pipeline's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raftkv.client.results import Consistency
from raftkv.client.retry import Call
from raftkv.kvstore.commands import Command
from raftkv.protocols.rpc_client import Done, RpcConnection


class Request:
    """Some commands, or some keys, that travel together.

    :param items: commands without their numbers, or keys.
    :param consistency: of a read; ``None`` for a write.
    :param max_stale: of a stale read, in seconds; ``None`` without a bound.
    :param done: gets the answer, a tuple with an element for each item, or the error.
    :ivar is_over: whether ``done`` has been called, or nobody waits for it any more.
    :ivar is_admitted: whether it counts among the outstanding, and, as a write, has its numbers.
    """

    __slots__ = (
        *("call", "commands", "connection", "consistency", "done", "is_admitted", "is_over", "items", "max_stale"),
        *("numbers", "started"),
    )

    def __init__(
        self,
        items: tuple[Any, ...],
        consistency: Consistency | None,
        done: Done,
        started: float,
        max_stale: float | None = None,
    ) -> None:
        self.items = items
        self.consistency = consistency
        self.max_stale = max_stale
        self.done = done
        self.started = started
        self.is_over = False
        self.is_admitted = False
        self.numbers: Sequence[int] = ()
        self.commands: tuple[Command, ...] = ()
        self.call: Call | None = None  # made when the first attempt fails, which most never do
        self.connection: RpcConnection | None = None  # that carries it at present

    @property
    def is_write(self) -> bool:
        """Whether it may change something."""
        return self.consistency is None

    @property
    def is_under_way(self) -> bool:
        """Whether a connection carries it just now."""
        return self.connection is not None

    def describe(self) -> str:
        """Say what it is, for messages."""
        kind = "write" if self.is_write else "read"
        return f"{kind} of {len(self.items)} keys" if len(self.items) != 1 else kind


class Errand(Request):
    """A request that is neither commands with numbers nor keys; it may be sent again without harm.

    :param send: sends it over a connection, which calls back with the answer.
    :param what: what it is, for messages.
    :param is_write: whether it may change something.
    """

    __slots__ = ("_is_write", "_what", "send")

    def __init__(
        self,
        send: Callable[[RpcConnection, Done], None],
        *,
        what: str,
        is_write: bool,
        done: Done,
        started: float,
    ) -> None:
        # The consistency says only that it needs no numbers.
        super().__init__((what,), "linearizable", done, started)
        self.send = send
        self._what = what
        self._is_write = is_write

    @property
    def is_write(self) -> bool:
        """Whether it may change something."""
        return self._is_write

    def describe(self) -> str:
        """Say what it is, for messages."""
        return self._what
