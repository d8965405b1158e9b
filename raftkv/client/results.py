"""What a client's calls give: values with names, and the errors that arise on the client's own side.

Everything else that a call can raise is in :mod:`raftkv.errors`. Nothing here knows HTTP or a connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from raftkv.errors import BadRequest, Outcome, RaftKVError

Consistency = Literal["linearizable", "lease", "stale"]
MAX_STALE_SECONDS = 31_536_000  #: the longest ``max_stale`` that a node takes: a year
CONSISTENCIES: tuple[Consistency, ...] = ("linearizable", "lease", "stale")


class ClientClosed(RaftKVError):
    """The client (or the watch) was closed before this call was sent; nothing came of it."""

    code = "closed"

    def __str__(self) -> str:
        return "this client is closed"


class NotReached(RaftKVError):
    """No connection to a server could be made, so that nothing was sent; the cause of a time-out."""

    code = "unreachable"


class ValueNotText(RaftKVError, ValueError):
    """The value is not UTF-8, so that it has no ``str``; ``get_bytes`` and ``get_record`` give the bytes.

    :ivar key: the key whose value it is.
    """

    code = "value_not_text"

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"the value of {self.key!r} is not UTF-8 text; read it with get_bytes or get_record"


class UnexpectedAnswer(RaftKVError):
    """The answer is not one that raftkv gives: an internal error, or something else that listens at this address.

    :ivar status: the HTTP status, 0 where the answer did not come by HTTP.
    :ivar reason: what was wrong with it.
    """

    code = "internal"

    def __init__(self, status: int, reason: str, outcome: Outcome = "not_applied") -> None:
        super().__init__(status, reason, outcome)
        self.status = status
        self.reason = reason
        self.outcome = outcome

    def __str__(self) -> str:
        return f"unexpected answer with status {self.status}: {self.reason}" if self.status else self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A key with its value and its history in numbers.

    :ivar create_revision: the revision that created the key in its present life.
    :ivar mod_revision: the revision of the last write; what a conditional write compares.
    :ivar version: 1 at creation, one more with each write.
    :ivar lease: the lease that the key hangs on, 0 for none.
    :ivar staleness: after a stale read: everything that was written longer ago than so many seconds had been taken into
        account; ``None`` where the node did not know, and after any other read.
    """

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0
    staleness: float | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """The value as text.

        :raises ValueNotText: it is not UTF-8.
        """
        return text_of(self.key, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A set that took effect.

    :ivar revision: the revision that it was given, now the key's mod revision.
    :ivar lease: the lease that was made for this key alone, where a time to live was given; else ``None``.
    """

    revision: int
    lease: int | None = None

    def __repr__(self) -> str:
        lease = "" if self.lease is None else f", lease={self.lease}"
        return f"{type(self).__name__}(revision={self.revision}{lease})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A delete that was answered.

    :ivar deleted: whether there was a key to delete.
    :ivar revision: the revision of the delete; where nothing was deleted, the store's present one.
    """

    deleted: bool
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What one node says of itself.

    :ivar leader: id of the leader as far as the node knows.
    :ivar digest: of the state at ``applied_index``; equal on all nodes at an equal index.
    :ivar uptime: seconds since the start.
    :ivar raw: the whole answer, with whatever a newer server adds to it.
    """

    node_id: str
    cluster_id: str
    role: str
    term: int
    leader: str | None
    commit_index: int
    applied_index: int
    first_index: int
    last_index: int
    snapshot_index: int
    revision: int
    compact_revision: int
    keys: int
    digest: str
    uptime: float
    version: str
    alarms: tuple[Any, ...]
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of the cluster.

    :ivar role: ``"voter"`` or ``"learner"``.
    :ivar match_index: how far its log is known to agree with the leader's; likewise ``healthy`` and
        ``last_contact`` (seconds), ``None`` where there is no leader to know it.
    :ivar promoting: a learner that will be a voter once it has caught up.
    """

    id: str
    raft_addr: str
    rpc_addr: str
    http_addr: str
    role: str
    leader: bool
    match_index: int | None
    healthy: bool | None
    last_contact: float | None
    promoting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Who is in the cluster.

    :ivar leader: id of the leader, ``None`` where there is none.
    :ivar raw: the whole answer, with whatever a newer server adds to it.
    """

    cluster_id: str
    leader: str | None
    term: int
    members: tuple[Member, ...]
    raw: Mapping[str, Any]


def text_of(key: str, value: bytes) -> str:
    """Decode a value.

    :raises ValueNotText: it is not UTF-8.
    """
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueNotText(key) from None


def key_bytes(key: str | bytes, label: str = "key") -> bytes:
    """Check a key and give it in the form in which keys are compared and sent.

    An empty key is refused here already: under ``/v1/kv/`` it would name the whole range.

    :param label: what it is called in messages.
    :raises BadRequest: it is empty, or not UTF-8.
    :raises TypeError: it is neither ``str`` nor ``bytes``.
    """
    if type(key) is bytes and key and key.isascii():
        return key  # as most are that a program makes by itself
    encoded = text_bytes(key, label)
    if not encoded:
        raise BadRequest(f"{label}: must not be empty")
    return encoded


def text_bytes(text: str | bytes, label: str) -> bytes:
    """Check a text that may be empty, such as a prefix, and give its bytes.

    :raises BadRequest: it is not UTF-8.
    :raises TypeError: it is neither ``str`` nor ``bytes``.
    """
    if isinstance(text, str):
        try:
            return text.encode("utf-8")
        except UnicodeEncodeError:
            raise BadRequest(f"{label}: contains a lone surrogate, which UTF-8 cannot express") from None
    if not isinstance(text, bytes):
        raise TypeError(f"{label} must be str or bytes, not {type(text).__name__}")
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRequest(f"{label}: expected UTF-8 text, and these bytes are none") from None
    return text


def value_bytes(value: str | bytes) -> bytes:
    """Give a value in the form in which it is stored.

    :raises BadRequest: a ``str`` that UTF-8 cannot express.
    :raises TypeError: it is neither ``str`` nor ``bytes``.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            raise BadRequest("value: contains a lone surrogate, which UTF-8 cannot express") from None
    if isinstance(value, bytes):
        return value
    raise TypeError(f"value must be str or bytes, not {type(value).__name__}")


def check_consistency(consistency: str, max_stale: float | None = None) -> None:
    """Refuse a word that names no kind of read, and a bound that means nothing.

    :raises BadRequest: it is none of :data:`CONSISTENCIES`, or ``max_stale`` is no number of seconds, or is given
        with a read that is not a stale one.
    """
    if consistency not in CONSISTENCIES:
        raise BadRequest(f"consistency: found {consistency!r}, expected one of {', '.join(CONSISTENCIES)}")
    if max_stale is None:
        return
    if consistency != "stale":
        raise BadRequest(f"max_stale: only for consistency='stale', found {consistency!r}")
    is_number = isinstance(max_stale, int | float) and not isinstance(max_stale, bool)
    if not is_number or not 0 <= max_stale <= MAX_STALE_SECONDS:
        raise BadRequest(f"max_stale: found {max_stale!r}, expected a number of seconds from 0 to {MAX_STALE_SECONDS}")
