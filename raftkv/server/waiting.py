"""What the interfaces show of a node that takes no part in its cluster yet: why, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from raftkv import __version__
from raftkv.errors import NoLeader, RaftKVError
from raftkv.interfaces import Command, Consistency, IKeyValue, INode, Leadership, Record, Result
from raftkv.kvstore import Store
from raftkv.protocols.repairs import LOG_ENTRIES
from raftkv.server.backups import NoBackups
from raftkv.watches import IWatch, WatchReceiver, WatchRequest

_CALLS: Final = (
    "change_members",
    "transfer_leadership",
    "join",
    "join_at_leader",
    "identify",
    "membership",
    "compare_state",
    "lend_state",
    LOG_ENTRIES,
)


class NotBegun(NoLeader):
    """The node takes no part in the cluster yet, so nobody can be asked through it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the node has not begun yet: {self.reason}"


class _RefusedWatch:
    """A watch that never begins."""

    told_revision = 0

    def __init__(self, receiver: WatchReceiver, refusal: Callable[[], RaftKVError]) -> None:
        self._receiver = receiver
        self._refusal = refusal

    def begin(self) -> None:
        """See :class:`raftkv.watches.IWatch`."""
        self._receiver.ended(self._refusal())

    def cancel(self) -> None:
        """Nothing to do; likewise the others."""

    def go_on(self) -> None:
        """See :meth:`cancel`."""

    def ask_progress(self) -> None:
        """See :meth:`cancel`."""


@implementer(IKeyValue, INode)
class Waiting:
    """A node with an empty data directory, until it is known how to begin; one with a damaged log, until it is whole.

    :param role: what its status calls it.
    :param reason: returns what it waits for.
    :param seconds: a monotonic clock.
    """

    def __init__(
        self, *, node_id: str, reason: Callable[[], str], seconds: Callable[[], float], role: str = "joining"
    ) -> None:
        self._node_id = node_id
        self._role = role
        self._reason = reason
        self._seconds = seconds
        self._began = seconds()
        self._nothing = Store()
        self.backups = NoBackups(self._refusal)

    def _refusal(self) -> NotBegun:
        return NotBegun(self._reason())

    def write(
        self,
        commands: Sequence[Command],
        done: Callable[[Sequence[Result] | RaftKVError], None],
        *,
        forwarded: bool = False,
    ) -> None:
        """See :class:`IKeyValue`."""
        done(self._refusal())

    def acquire(self, command: Command, done: Callable[[Result | RaftKVError], None]) -> Callable[[], None]:
        """See :class:`IKeyValue`."""
        done(self._refusal())
        return lambda: None

    def barrier(
        self,
        consistency: Consistency,
        done: Callable[[RaftKVError | None], None],
        *,
        max_stale_seconds: float | None = None,
    ) -> None:
        """See :class:`IKeyValue`: not even a stale read is answered, for an empty state would look like a lost one."""
        done(self._refusal())

    def at_turn_end(self, call: Callable[[], None]) -> bool:
        """See :class:`IKeyValue`: whatever is asked is answered by itself."""
        return False

    def staleness(self) -> float | None:
        """See :class:`IKeyValue`."""
        return None

    def get(self, key: bytes) -> Record | None:
        """See :class:`IKeyValue`."""
        return None

    def scan(self, start: bytes, end: bytes | None, limit: int) -> Iterator[tuple[bytes, Record]]:
        """See :class:`IKeyValue`."""
        return iter(())

    def revision(self) -> int:
        """See :class:`IKeyValue`."""
        return 0

    def state(self) -> Store:
        """See :class:`IKeyValue`; never called, as no barrier is passed."""
        return self._nothing

    def watch(self, request: WatchRequest, receiver: WatchReceiver) -> IWatch:
        """See :class:`IKeyValue`."""
        return _RefusedWatch(receiver, self._refusal)

    def leadership(self) -> Leadership:
        """See :class:`INode`."""
        return Leadership(
            node_id=self._node_id, term=0, leader=None, leader_http_addr="", leader_rpc_addr="", is_leader=False
        )

    def status(self) -> dict[str, Any]:
        """See :class:`INode`."""
        numbers = ("commit_index", "applied_index", "first_index", "last_index", "snapshot_index", "revision")
        return {
            "node_id": self._node_id,
            "cluster_id": "",
            "role": self._role,
            "term": 0,
            "leader": None,
            **dict.fromkeys(numbers, 0),
            "compact_revision": 0,
            "keys": 0,
            "digest": self._nothing.digest(),
            "uptime": round(self._seconds() - self._began, 3),
            "version": __version__,
            "alarms": [],
        }

    def cluster(self) -> Deferred[dict[str, Any]]:
        """See :class:`INode`."""
        return succeed(self.local_cluster())

    def local_cluster(self) -> dict[str, Any]:
        """See :class:`INode`."""
        return {"cluster_id": "", "leader": None, "term": 0, "members": []}

    def change_members(self, document: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """See :class:`INode`."""
        return fail(self._refusal())

    def transfer_leadership(self, document: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """See :class:`INode`."""
        return fail(self._refusal())

    def calls(self) -> dict[str, Callable[[Mapping[str, Any]], Deferred[dict[str, Any]]]]:
        """Return what other nodes would ask a member: they are to ask somebody else, and may come back."""
        return {name: lambda _: fail(self._refusal()) for name in _CALLS}

    def is_ready(self) -> tuple[bool, str]:
        """See :class:`INode`."""
        return False, self._reason()

    def counters(self) -> Mapping[str, float]:
        """See :class:`INode`."""
        return {}
