"""What an operation is, and the spelling that all of them share: paths, queries, documents, fences.

Sans-I/O. What an answer says is checked field by field in :mod:`raftkv.client.answers`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

from raftkv.client.answers import Answer, Fields, error_of
from raftkv.client.model import FenceLike
from raftkv.client.results import Record, UnexpectedAnswer, check_consistency, key_bytes
from raftkv.client.spelling import Edges, positive, range_edges
from raftkv.errors import BadRequest, KeyNotFound

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

RAW: Final = "application/octet-stream"
JSON_HEADERS: Final[Mapping[str, str]] = {"Content-Type": "application/json"}
Query = list[tuple[str, str | bytes]]  #: parameters of a request, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[T_co]):
    """One request and its meaning.

    :ivar target: path and query, percent-encoded.
    :ivar read: makes the result of a good answer.
    :ivar is_write: whether it may change anything; a write is sent with a sequence number where it is ``sessioned``.
    :ivar sessioned: whether the server applies it once however often it comes under one number.
    :ivar idempotent: a write that may be repeated without a number, since twice is as good as once.
    :ivar prefer_leader: whether the leader answers it with one hop less.
    :ivar key: the key that it is about, empty where it is about none; likewise ``lock``, also one that it is fenced
        with, and ``lease``, 0 for none.
    :ivar queues: whether it waits for its turn where many calls are on their way; what keeps a lease alive does not.
    :ivar wait_seconds: how long the server may take on purpose before it answers. Such a write has its number from a
        row of its own, so that it holds up no others.
    """

    method: str
    target: str
    read: Callable[[Answer], T_co]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    is_write: bool = False
    sessioned: bool = False
    idempotent: bool = False
    prefer_leader: bool = False
    key: bytes = b""
    lock: bytes = b""
    lease: int = 0
    queues: bool = True
    wait_seconds: float = 0.0

    @property
    def description(self) -> str:
        """The request line, for messages."""
        return f"{self.method} {self.target}"

    @property
    def is_repeatable(self) -> bool:
        """Whether it does no harm to send it again after it may have been received (B63)."""
        return self.sessioned or self.idempotent or not self.is_write

    def interpret(self, answer: Answer) -> T_co:
        """Read an answer.

        :raises raftkv.errors.RaftKVError: what the server said, or that it makes no sense.
        """
        if answer.status != 200:
            raise error_of(answer, is_write=self.is_write, key=self.key, lock=self.lock, lease=self.lease)
        try:
            return self.read(answer)
        except UnexpectedAnswer as unexpected:
            # The server did something, and we cannot read what.
            unexpected.outcome = "unknown" if self.is_write else "not_applied"
            raise

    def interpret_or_none(self, answer: Answer) -> T_co | None:
        """Read an answer for which a key that does not exist is no error."""
        try:
            return self.interpret(answer)
        except KeyNotFound:
            return None


# -- requests ----------------------------------------------------------------------------------------------------------


def path_segment(text: bytes) -> str:
    """Return a name in the form in which it stands in a path."""
    # Dots too: "." and ".." are names like others, and something on the way may take them for steps in a path.
    return quote(text, safe="").replace(".", "%2E")


def query_string(query: Query) -> str:
    """Return parameters as they are appended to a path, empty where there are none."""
    return "?" + urlencode(query, quote_via=quote, safe="") if query else ""


def read_query(consistency: str = "linearizable", max_stale: float | None = None, revision: int | None = None) -> Query:
    """Make the parameters that all reads share.

    :raises BadRequest: one of them makes no sense.
    """
    check_consistency(consistency, max_stale)
    query: Query = [] if consistency == "linearizable" else [("consistency", consistency)]
    if max_stale is not None:
        # Rounded down: no answer may be older than was asked for.
        query.append(("max_stale", f"{math.floor(max_stale * 1000) / 1000:.3f}"))
    if revision is not None:
        query.append(("revision", str(positive("revision", revision))))
    return query


def json_body(document: Mapping[str, Any]) -> bytes:
    """Return a document as it travels."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def value_fields(value: bytes, name: str = "value") -> dict[str, str]:
    """Return the field of a document that holds a value: text where it is text, else base64."""
    try:
        return {name: value.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode("ascii")}


def range_fields(prefix: str | bytes | None, start: str | bytes | None, end: str | bytes | None) -> dict[str, str]:
    """Return the fields that name a range, the same ones in a query and in a document.

    :raises BadRequest: ``prefix`` together with one of the others, or what is no text.
    """
    return edge_fields(range_edges(prefix, start, end))


def edge_fields(edges: Edges) -> dict[str, str]:
    """Return the fields that name a range, of which the edges are known."""
    return {name: edge.decode("utf-8") for name, edge in edges.items()}


def fence_headers(lock: FenceLike | None) -> dict[str, str]:
    """Make the header that carries a write out only while a lock is held."""
    if lock is None:
        return {}
    fence = lock.fence
    name = quote(key_bytes(fence.name, "lock"), safe="")
    return {"X-Lock": f"{name}={positive('token', fence.token)}"}


def fence_name(lock: FenceLike | None) -> bytes:
    """Return the name of the lock that a write is fenced with, empty where it is not."""
    return b"" if lock is None else key_bytes(lock.fence.name, "lock")


def seconds_text(name: str, seconds: float, *, at_least: float = 0.001) -> str:
    """Return a number of seconds as it stands in a query or a path.

    :raises BadRequest: it is no such number.
    """
    return f"{seconds_number(name, seconds, at_least=at_least):.3f}".rstrip("0").rstrip(".")


def seconds_number(name: str, seconds: float, *, at_least: float = 0.001) -> float:
    """Check a number of seconds, of which the server knows thousandths.

    :raises BadRequest: it is no number, or less than ``at_least``.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not at_least <= seconds < math.inf:
        raise BadRequest(f"{name}: found {seconds!r}, expected a number of seconds from {at_least:g}")
    return seconds


# -- answers -----------------------------------------------------------------------------------------------------------


def read_record(body: Fields, *, staleness: float | None = None, with_value: bool = True) -> Record:
    """Read a record.

    :param with_value: whether it comes with its value; else that is empty.
    """
    return Record(
        key=body.text("key"),
        value=read_value(body) if with_value else b"",
        create_revision=body.integer("create_revision"),
        mod_revision=body.integer("mod_revision"),
        version=body.integer("version"),
        lease=body.integer("lease") if body.has("lease") else 0,
        staleness=staleness,
    )


def read_value(body: Fields) -> bytes:
    """Read a value in either of its spellings."""
    name = "value_base64" if body.has("value_base64") else "value"
    text = body.text(name)
    try:
        return base64.b64decode(text, validate=True) if name == "value_base64" else text.encode("utf-8")
    except ValueError:  # of which both binascii.Error and UnicodeEncodeError are kinds
        raise body.wrong(name, "base64" if name == "value_base64" else "UTF-8 text") from None


def texts(items: Iterable[object], body: Fields, name: str) -> tuple[str, ...]:
    """Check a list of strings."""
    found = tuple(items)
    if not all(isinstance(item, str) for item in found):
        raise body.wrong(name, "a list of strings")
    return found  # type: ignore[return-value]  # checked in the line before
