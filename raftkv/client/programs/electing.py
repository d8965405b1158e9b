"""Elections: watching who is elected, and doing work only while elected oneself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from raftkv.client import operations
from raftkv.client.model import Leader
from raftkv.client.operations.locks import ELECTIONS
from raftkv.client.programs.engine import Engine
from raftkv.client.programs.locking import Tenure
from raftkv.client.programs.watching import WatchProgram
from raftkv.client.results import Record, key_bytes
from raftkv.client.runtime import Stopped
from raftkv.errors import Compacted, FutureRevision, RaftKVError

T = TypeVar("T")
R = TypeVar("R")


def election_key(name: str | bytes) -> str:
    """Return the lock of an election, and the key that shows its leader."""
    return ELECTIONS + key_bytes(name, "name").decode("utf-8")


def leader_of(record: Record | None) -> Leader | None:
    """Return the leader that an election's key shows."""
    # The key appears in the very revision that is the token, and what is proclaimed later leaves that as it is.
    return None if record is None else Leader(value=record.value, token=record.create_revision, lease=record.lease)


class ObserveProgram:
    """One leader after the other, ``None`` where there is none; the present one first.

    Where the past that it would need is compacted, or the store was restored, it goes on with the leader of then:
    whoever observes wants to know who leads, not who led.
    """

    def __init__(self, engine: Engine, name: str | bytes, *, silence_seconds: float, patience_seconds: float) -> None:
        self._engine = engine
        self._key = election_key(name)
        self._silence_seconds = silence_seconds
        self._patience_seconds = patience_seconds
        self._watch: WatchProgram | None = None
        self._leader: Leader | None = None
        self._has_told = False
        self._is_closed = False

    async def next(self) -> Leader | None:
        """Return the leader, once it is another one, or proclaims something else.

        :raises StopAsyncIteration: it was closed.
        """
        while True:
            leader = await self._look()
            if not self._has_told or leader != self._leader:
                self._has_told, self._leader = True, leader
                return leader

    def close(self) -> None:
        """Observe no more."""
        self._is_closed = True
        if self._watch is not None:
            self._watch.close()

    async def _look(self) -> Leader | None:
        if self._is_closed:
            raise StopAsyncIteration
        if self._watch is not None:
            try:
                return leader_of((await self._watch.next()).record)
            except (Compacted, FutureRevision):
                self._watch.close()
                self._watch = None
        key = self._key
        page = await self._engine.call(lambda: operations.page(start=key, end=key + "\0"))
        if not self._is_closed:
            after = page.revision + 1
            self._watch = WatchProgram(
                self._engine,
                lambda seconds: operations.watch(
                    key=key, from_revision=after, previous=False, progress_seconds=seconds
                ),
                from_revision=after,
                silence_seconds=self._silence_seconds,
                patience_seconds=self._patience_seconds,
            )
        return leader_of(page.records[0] if page.records else None)


async def lead(engine: Engine, campaign: Callable[[], tuple[Tenure, T]], work: Callable[[T], Awaitable[R] | R]) -> R:
    """Do a piece of work while elected, as often as it takes to come to its end.

    :param campaign: makes a candidacy, and what to hand to the work.
    :param work: cancelled when the leadership is lost, and begun anew with the next one; the blocking flavour cannot
        cancel it, and begins anew once it has returned.
    :return: the result of work that was done before its leadership was lost.
    """
    while True:
        tenure, handle = campaign()
        await tenure.acquire(None)
        try:
            result: R = await engine.runtime.interruptible(partial(work, handle), tenure.keeper.lost)
            if not tenure.keeper.is_lost:
                return result
        except Stopped:
            pass
        finally:
            with suppress(RaftKVError):  # it ends with its lease in any case
                await tenure.release()
