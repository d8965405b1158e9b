"""What a client gives to hold: leases, locks, the leadership of elections."""

# Made from raftkv/client/aio/holding.py by python -m tests.client.flavours; change it there.

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TypeVar

from raftkv.client import operations
from raftkv.client.model import ElectionInfo, Fence, Leader, LeaseLike
from raftkv.client.programs.electing import ObserveProgram, election_key, lead
from raftkv.client.programs.engine import Engine
from raftkv.client.programs.keeping import Keeper
from raftkv.client.programs.leasing import LeaseProgram
from raftkv.client.programs.locking import Tenure, endless
from raftkv.client.programs.watching import patience
from raftkv.client.sync.runtime import run

T = TypeVar("T")


class Lease:
    """A lease that is kept alive while a ``with`` block lasts, and revoked at its end.

    It can stand wherever a call takes a lease.
    """

    def __init__(self, engine: Engine, program: LeaseProgram) -> None:
        self._engine = engine
        self._program = program

    @property
    def keeper(self) -> Keeper:
        """What keeps it alive."""
        return self._program.kept

    @property
    def id(self) -> int:
        """Its number."""
        return self._program.kept.id

    @property
    def ttl(self) -> float:
        """Seconds that it lasts after each sign of life."""
        return self._program.kept.ttl

    @property
    def remaining(self) -> float:
        """Seconds that it lasts at least, as far as is known here."""
        return self._program.kept.remaining_seconds

    @property
    def lost(self) -> bool:
        """Whether it may be gone. Once it is true it stays so."""
        return self._program.kept.is_lost

    def when_lost(self, timeout: float = math.inf) -> bool:
        """Wait until the lease is lost or revoked; return whether it is lost.

        :param timeout: seconds to wait at most.
        """
        return run(self._engine, self._program.kept.when_lost(timeout))

    def start(self) -> Lease:
        """Have the lease granted, and keep it alive from now on."""
        return run(self._engine, self._program.start(self))

    def revoke(self) -> bool:
        """End the lease with its keys; return whether it was there until now."""
        return run(self._engine, self._program.revoke())

    def __enter__(self) -> Lease:
        return run(self._engine, self._program.start(self))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return run(self._engine, self._program.leave(kind))


class _Held:
    """A lock or a leadership, from asking to giving back."""

    def __init__(self, engine: Engine, tenure: Tenure) -> None:
        self._engine = engine
        self._tenure = tenure

    @property
    def token(self) -> int:
        """What fences: a revision, larger than that of every holder before."""
        return self._tenure.taken.token

    @property
    def fence(self) -> Fence:
        """What makes a write depend on it; the object itself can stand there too."""
        return self._tenure.fence

    @property
    def lease(self) -> int:
        """The number of the lease that holds it."""
        return self._tenure.taken.lease

    @property
    def remaining(self) -> float:
        """Seconds that it is held at least, as far as is known here."""
        return self._tenure.keeper.remaining_seconds

    @property
    def lost(self) -> bool:
        """Whether it may be somebody else's by now. Once it is true it stays so."""
        return self._tenure.keeper.is_lost

    def when_lost(self, timeout: float = math.inf) -> bool:
        """Wait until it is lost or given back; return whether it is lost.

        :param timeout: seconds to wait at most.
        """
        return run(self._engine, self._tenure.keeper.when_lost(timeout))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return run(self._engine, self._tenure.leave(kind))


class Lock(_Held):
    """A lock that is held while a ``with`` block lasts."""

    def acquire(self) -> Lock:
        """Take the lock, and keep it alive from now on.

        :raises raftkv.errors.LockHeld: it was not free in time.
        """
        return run(self._engine, self._tenure.acquire(self))

    def release(self) -> bool:
        """Free the lock; return whether it was held until now."""
        return run(self._engine, self._tenure.release())

    def __enter__(self) -> Lock:
        return run(self._engine, self._tenure.acquire(self))


class Leadership(_Held):
    """The leadership of an election, held while a ``with`` block lasts."""

    def __init__(self, engine: Engine, tenure: Tenure, name: str | bytes) -> None:
        super().__init__(engine, tenure)
        self._name = name

    def campaign(self) -> Leadership:
        """Wait to be elected, and keep the leadership alive from then on.

        :raises raftkv.errors.LockHeld: somebody else was elected all the time.
        """
        return run(self._engine, self._tenure.acquire(self))

    def proclaim(self, value: str | bytes) -> int:
        """Show another value; return the revision.

        :raises raftkv.errors.LockNotHeld: the leadership is somebody else's.
        """
        return run(self._engine, self._engine.call(lambda: operations.proclaim(self._name, value, token=self.token)))

    def resign(self) -> bool:
        """Give the leadership up; return whether it was held until now."""
        return run(self._engine, self._tenure.release())

    def __enter__(self) -> Leadership:
        return run(self._engine, self._tenure.acquire(self))


class Leaders:
    """One leader after the other, ``None`` while there is none, the present one first: ``for leader in ...``."""

    def __init__(self, engine: Engine, program: ObserveProgram) -> None:
        self._engine = engine
        self._program = program

    def close(self) -> None:
        """Observe no more."""
        self._program.close()

    def __iter__(self) -> Iterator[Leader | None]:
        return self

    def __next__(self) -> Leader | None:
        return run(self._engine, self._program.next())

    def __del__(self) -> None:
        if hasattr(self, "_program"):
            self._program.close()


class Election:
    """An election: of those who stand in it one leads at a time."""

    def __init__(self, engine: Engine, name: str | bytes) -> None:
        self._engine = engine
        self._name = name
        self._lock_name = election_key(name)

    def campaign(
        self, value: str | bytes, *, ttl: float = 10.0, wait: float | None = None, lease: LeaseLike | None = None
    ) -> Leadership:
        """Stand in the election, from the beginning of a ``with`` block; its body runs once elected.

        :param value: what to proclaim, such as an address.
        :param ttl: seconds after which another one can be elected when this program is gone.
        :param wait: seconds to wait; ``None``: as long as it takes.
        :param lease: a lease to lead with, in place of one of its own.
        """
        tenure = Tenure(
            self._engine,
            ask=lambda seconds: operations.campaign(
                self._name, value, ttl=None if lease is not None else ttl, lease=lease, wait=seconds
            ),
            give_back=lambda token: operations.resign(self._name, token=token),
            lock_name=self._lock_name,
            wait_seconds=endless(wait),
            ttl=ttl,
            lease=lease,
        )
        return Leadership(self._engine, tenure, self._name)

    def lead(self, work: Callable[[Leadership], T], value: str | bytes, *, ttl: float = 10.0) -> T:
        """Do a piece of work as the leader: wait to be elected, do it, resign.

        Work whose leadership was lost meanwhile is begun anew once elected again; it should look at ``lost``
        now and then, and return, for nobody can stop it.

        :param work: what to do; it is given the leadership.
        :param value: what to proclaim.
        """
        return run(self._engine, lead(self._engine, lambda: self._candidacy(value, ttl), work))

    def info(self) -> ElectionInfo:
        """Ask who leads, and how many wait to."""
        return run(self._engine, self._engine.call(lambda: operations.election_info(self._name)))

    def observe(self, *, silence: float = 15.0, max_outage: float | None = 60.0) -> Leaders:
        """Watch who leads; the parameters are those of the client's ``watch``."""
        return Leaders(
            self._engine,
            ObserveProgram(self._engine, self._name, silence_seconds=silence, patience_seconds=patience(max_outage)),
        )

    def _candidacy(self, value: str | bytes, ttl: float) -> tuple[Tenure, Leadership]:
        leadership = self.campaign(value, ttl=ttl)
        return leadership._tenure, leadership
