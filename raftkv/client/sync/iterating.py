"""What a client gives to iterate over: things that come in pages, and watches."""

# Made from raftkv/client/aio/iterating.py by python -m tests.client.flavours; change it there.

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Generic, TypeVar

from raftkv.client.model import Event, Page
from raftkv.client.programs import paging
from raftkv.client.programs.engine import Engine
from raftkv.client.programs.watching import WatchProgram
from raftkv.client.sync.runtime import run

T = TypeVar("T")


class Items(Generic[T]):
    """Things that come a page at a time, each page when it is wanted, one after the other."""

    def __init__(self, engine: Engine, program: paging.Items[T]) -> None:
        self._engine = engine
        self._program = program

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return run(self._engine, self._program.next())


class Pages:
    """The pages of a range, each asked for when it is wanted."""

    def __init__(self, engine: Engine, program: paging.Pages[Page]) -> None:
        self._engine = engine
        self._program = program

    def __iter__(self) -> Iterator[Page]:
        return self

    def __next__(self) -> Page:
        return run(self._engine, self._program.next())


class Watch:
    """A row of events: ``for event in watch``.

    It ends with the ``with`` block that it is used in, with :meth:`close`, or when nobody has it any more.
    """

    def __init__(self, engine: Engine, program: WatchProgram) -> None:
        self._engine = engine
        self._program = program

    @property
    def revision(self) -> int | None:
        """What to resume from in another watch: everything up to this revision has been told, but for events that
        have come and were not asked for yet. ``None`` before there was a stream."""
        return self._program.revision

    def ready(self) -> int:
        """Wait until the watch has begun; return the revision behind which it tells everything."""
        return run(self._engine, self._program.ready())

    def next_revision(self) -> tuple[Event, ...]:
        """Wait for all events of the next revision, which for a transaction may be many."""
        return run(self._engine, self._program.next_revision())

    def close(self) -> None:
        """End the watch, and its connection, now."""
        self._program.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return run(self._engine, self._program.next())

    def __enter__(self) -> Watch:
        return run(self._engine, self._program.enter(self))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return run(self._engine, self._program.leave())

    def __del__(self) -> None:
        # Whoever breaks out of a loop over it lets go of it: its connection is not to outlive that.
        if hasattr(self, "_program"):
            self._program.close()
