"""What the calls of the key-value model give: pages, counters, transactions, events, leases, locks, elections.

Values without a connection, beside those of :mod:`raftkv.client.results`; every flavour of the client gives these very
classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from raftkv.client.results import Deleted, Record, Written

EventType = Literal["put", "delete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a range, as it was at one revision.

    :ivar records: in key order; without their values (empty) where only keys were asked for.
    :ivar folders: with a delimiter: what the keys further down have in common, such as ``"users/"``.
    :ivar count: of all keys of the range, whatever the page's size.
    :ivar next: asks for the next page; ``None`` on the last one.
    :ivar revision: the moment that this page, and all that follow it, show.
    """

    records: tuple[Record, ...]
    count: int
    revision: int
    folders: tuple[str, ...] = ()
    next: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the page."""
        return tuple(record.key for record in self.records)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedRange:
    """A range that was deleted.

    :ivar deleted: how many keys there were.
    :ivar revision: of the delete; where there were none, the store's present one.
    """

    deleted: int
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """A number in the store, after an increment.

    :ivar value: what it is now.
    :ivar revision: of the increment.
    """

    value: int
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionResult:
    """What became of a transaction.

    :ivar succeeded: whether all compares held, so that ``success`` ran and not ``failure``.
    :ivar revision: of everything that it wrote; where that was nothing, the store's present one.
    :ivar results: one for each operation that ran, in order, of the class in the comment of :data:`OperationResult`.
    """

    succeeded: bool
    revision: int
    results: tuple[OperationResult, ...]


#: Of a Put, a Get (None where there is no such key), a Delete, a DeleteRange, a Range, a nested Transaction.
OperationResult: TypeAlias = "Written | Record | Deleted | DeletedRange | Page | TransactionResult | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change of one key.

    :ivar type: ``"put"`` or ``"delete"``.
    :ivar revision: at which it happened; the events of one transaction share theirs.
    :ivar record: the key as it is from then on; ``None`` after a delete.
    :ivar previous: the key as it was before; ``None`` where there was none, or it was not asked for.
    :ivar is_last: whether it is the last event of its revision.
    """

    type: EventType
    key: str
    revision: int
    record: Record | None
    previous: Record | None
    is_last: bool = True

    @property
    def is_put(self) -> bool:
        """Whether the key was set."""
        return self.type == "put"

    @property
    def is_delete(self) -> bool:
        """Whether the key was deleted, or its lease ended."""
        return self.type == "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseInfo:
    """A lease as the cluster knows it.

    :ivar id: its number.
    :ivar ttl: seconds that it has after each sign of life.
    :ivar remaining: seconds that it has left now.
    :ivar count: of the keys that it holds.
    :ivar keys: the first of them in order, where they were asked for.
    """

    id: int
    ttl: float
    remaining: float
    count: int
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedLease:
    """A lease that was made, or that has its whole time again.

    :ivar id: its number.
    :ivar ttl: seconds that it has from now on.
    """

    id: int
    ttl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedLease:
    """A lease that was ended.

    :ivar deleted: how many keys went with it.
    :ivar revision: at which they went.
    """

    deleted: int
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePage:
    """Some leases, in the order of their numbers.

    :ivar count: of all leases.
    :ivar next: asks for the next page; ``None`` on the last one.
    """

    leases: tuple[LeaseInfo, ...]
    count: int
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A lock and the token with which it is held: what a write bears, to be refused once the lock is somebody else's.

    :ivar name: of the lock; that of an election is ``elections/NAME``.
    :ivar token: the revision at which the lock was taken.
    """

    name: str
    token: int

    @property
    def fence(self) -> Fence:
        """Itself, so that it can stand wherever a held lock can."""
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLock:
    """A lock that was taken.

    :ivar lease: the lease that holds it.
    """

    name: str
    token: int
    lease: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LockInfo:
    """A lock as the cluster knows it.

    :ivar token: the holder's; likewise ``lease`` and ``remaining`` (seconds), ``None`` where the lock is free.
    :ivar waiting: how many wait for it.
    """

    name: str
    token: int | None
    lease: int | None
    remaining: float | None
    waiting: int

    @property
    def is_held(self) -> bool:
        """Whether somebody holds it."""
        return self.token is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockPage:
    """Some locks, in the order of their names.

    :ivar next: asks for the next page; ``None`` on the last one.
    """

    locks: tuple[LockInfo, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlocked:
    """A lock that was asked to be freed.

    :ivar released: whether somebody held it.
    """

    released: bool
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """Who was elected.

    :ivar value: what it proclaims.
    :ivar token: the revision at which it was elected, larger than that of each leader before.
    :ivar lease: on which its leadership hangs.
    :ivar remaining: seconds that the lease has left; ``None`` where it was not asked for.
    """

    value: bytes
    token: int
    lease: int
    remaining: float | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """What it proclaims, as text; what is no UTF-8 is replaced."""
        return self.value.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectionInfo:
    """An election as the cluster knows it.

    :ivar leader: ``None`` where nobody is elected.
    :ivar candidates: how many wait to be.
    """

    name: str
    leader: Leader | None
    candidates: int


class HasLease(Protocol):
    """Something that stands for a lease."""

    @property
    def id(self) -> int:
        """The lease's number."""
        ...


class HasFence(Protocol):
    """Something that stands for a lock that is held."""

    @property
    def fence(self) -> Fence:
        """The lock's name and token."""
        ...


LeaseLike: TypeAlias = int | HasLease  #: a lease, by its number or as an object that has it
FenceLike: TypeAlias = HasFence  #: a held lock, the leadership of an election, or a :class:`Fence`
