"""The operations of the HTTP API as values: the request that each one is, and how its answer is read.

Sans-I/O, so that the Deferred, asyncio and blocking flavours are built on the same table. A new endpoint is one
function here and one method in each flavour.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

from raftkv.client.answers import Answer, Fields, error_of, fields_of
from raftkv.client.results import (
    Cluster,
    Consistency,
    Deleted,
    Member,
    Record,
    Status,
    UnexpectedAnswer,
    Written,
    check_consistency,
    key_bytes,
    value_bytes,
)
from raftkv.errors import BadRequest, KeyNotFound

T = TypeVar("T")

_RAW: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[T]):
    """One request and its meaning.

    :ivar target: path and query, percent-encoded.
    :ivar read: makes the result of a good answer.
    :ivar is_write: whether it may change anything; a write is sent with a sequence number where it is ``sessioned``.
    :ivar sessioned: whether the server applies it once however often it comes under one number.
    :ivar prefer_leader: whether the leader answers it with one hop less.
    :ivar key: the key that it is about, empty where it is about none.
    """

    method: str
    target: str
    read: Callable[[Answer], T]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    is_write: bool = False
    sessioned: bool = False
    prefer_leader: bool = False
    key: bytes = b""

    @property
    def description(self) -> str:
        """The request line, for messages."""
        return f"{self.method} {self.target}"

    def interpret(self, answer: Answer) -> T:
        """Read an answer.

        :raises raftkv.errors.RaftKVError: what the server said, or that it makes no sense.
        """
        if answer.status != 200:
            raise error_of(answer, key=self.key, is_write=self.is_write)
        try:
            return self.read(answer)
        except UnexpectedAnswer as unexpected:
            # The server did something, and we cannot read what.
            unexpected.outcome = "unknown" if self.is_write else "not_applied"
            raise

    def interpret_or_none(self, answer: Answer) -> T | None:
        """Read an answer for which a key that does not exist is no error."""
        try:
            return self.interpret(answer)
        except KeyNotFound:
            return None


def set_value(
    key: str | bytes, value: str | bytes, *, if_mod_revision: int | None = None, if_exists: bool = False
) -> Operation[Written]:
    """Set a key.

    :param if_mod_revision: only if the key's mod revision is this one; 0: only if there is no such key.
    :param if_exists: only if there is such a key.
    :raises BadRequest: what is asked for makes no sense.
    """
    encoded = key_bytes(key)
    return Operation(
        method="PUT",
        target=_path_of(encoded),
        headers={
            "Content-Type": _RAW,
            **condition_headers(if_mod_revision, if_exists=if_exists),
        },
        body=value_bytes(value),
        read=lambda answer: Written(revision=fields_of(answer).integer("revision")),
        is_write=True,
        sessioned=True,
        prefer_leader=True,
        key=encoded,
    )


def delete_key(key: str | bytes, *, if_mod_revision: int | None = None, if_exists: bool = False) -> Operation[Deleted]:
    """Delete a key.

    :param if_mod_revision: only if the key's mod revision is this one.
    :param if_exists: only if there is such a key: a missing one is then an error.
    :raises BadRequest: what is asked for makes no sense.
    """
    encoded = key_bytes(key)
    if if_mod_revision == 0:
        raise BadRequest("if_mod_revision: found 0, which stands for a missing key; there is nothing to delete then")
    return Operation(
        method="DELETE",
        target=_path_of(encoded),
        headers=condition_headers(if_mod_revision, if_exists=if_exists),
        read=_read_deleted,
        is_write=True,
        sessioned=True,
        prefer_leader=True,
        key=encoded,
    )


def get_record(
    key: str | bytes, consistency: Consistency = "linearizable", max_stale: float | None = None
) -> Operation[Record]:
    """Read a key with its revisions.

    :raises BadRequest: what is asked for makes no sense.
    """
    encoded = key_bytes(key)
    return Operation(
        method="GET",
        target=_path_of(encoded) + _consistency_query(consistency, max_stale),
        headers={"Accept": "application/json"},
        read=lambda answer: _read_record(fields_of(answer), staleness=_read_staleness(answer)),
        prefer_leader=consistency != "stale",
        key=encoded,
    )


def get_text(
    key: str | bytes, consistency: Consistency = "linearizable", max_stale: float | None = None
) -> Operation[str]:
    """Read a value as text; reading the answer raises :exc:`~raftkv.client.results.ValueNotText` where it is none."""
    record = get_record(key, consistency, max_stale)
    return Operation(
        method=record.method,
        target=record.target,
        headers=record.headers,
        read=lambda answer: record.read(answer).text,
        prefer_leader=record.prefer_leader,
        key=record.key,
    )


def get_bytes(
    key: str | bytes, consistency: Consistency = "linearizable", max_stale: float | None = None
) -> Operation[bytes]:
    """Read a value as it is stored, without the detour over base64."""
    encoded = key_bytes(key)
    return Operation(
        method="GET",
        target=_path_of(encoded) + _consistency_query(consistency, max_stale),
        headers={"Accept": _RAW},
        read=_read_raw,
        prefer_leader=consistency != "stale",
        key=encoded,
    )


def status() -> Operation[Status]:
    """Ask a node about itself."""
    return Operation(method="GET", target="/v1/status", read=lambda answer: _read_status(fields_of(answer)))


def cluster() -> Operation[Cluster]:
    """Ask who is in the cluster."""
    return Operation(
        method="GET", target="/v1/cluster", read=lambda answer: _read_cluster(fields_of(answer)), prefer_leader=True
    )


def change_members(document: Mapping[str, Any]) -> Operation[Cluster]:
    """Make a change of the members.

    :param document: the body of ``POST /v1/cluster/members``.
    """
    return Operation(
        method="POST",
        target="/v1/cluster/members",
        headers={"Content-Type": "application/json"},
        body=json.dumps(document).encode(),
        read=lambda answer: _read_cluster(fields_of(answer)),
        is_write=True,
        prefer_leader=True,
    )


def transfer_leadership(to: str | None = None) -> Operation[str]:
    """Make a transfer of leadership; its result is who leads then.

    :param to: the member that is to lead; ``None`` leaves the choice to the leader.
    """
    return Operation(
        method="POST",
        target="/v1/cluster/transfer-leadership",
        headers={"Content-Type": "application/json"},
        body=json.dumps({} if to is None else {"to": to}).encode(),
        read=lambda answer: fields_of(answer).text("leader"),
        is_write=True,
        prefer_leader=True,
    )


def condition_headers(if_mod_revision: int | None, *, if_exists: bool) -> dict[str, str]:
    """Make the headers that hold a write to a condition.

    :raises BadRequest: a revision below 0, or two conditions at once.
    """
    if if_mod_revision is None:
        return {"If-Match": "*"} if if_exists else {}
    if isinstance(if_mod_revision, bool) or not isinstance(if_mod_revision, int) or if_mod_revision < 0:
        raise BadRequest(f"if_mod_revision: found {if_mod_revision!r}, expected a whole number that is not negative")
    if if_exists:
        raise BadRequest("if_exists: give either if_exists or if_mod_revision, not both")
    return {"If-Match": f'"{if_mod_revision}"'} if if_mod_revision else {"If-None-Match": "*"}


def _path_of(key: bytes) -> str:
    # Dots too: "." and ".." are keys like others, and something on the way may take them for steps in a path.
    return "/v1/kv/" + quote(key, safe="").replace(".", "%2E")


def _consistency_query(consistency: str, max_stale: float | None) -> str:
    check_consistency(consistency, max_stale)
    if max_stale is not None:
        # Rounded down: no answer may be older than was asked for.
        return f"?consistency={consistency}&max_stale={math.floor(max_stale * 1000) / 1000:.3f}"
    return "" if consistency == "linearizable" else f"?consistency={consistency}"


def _read_deleted(answer: Answer) -> Deleted:
    body = fields_of(answer)
    return Deleted(deleted=body.boolean("deleted"), revision=body.integer("revision"))


def _read_staleness(answer: Answer) -> float | None:
    try:
        return float(answer.headers.get("x-raft-staleness", ""))
    except ValueError:
        return None


def _read_record(body: Fields, *, staleness: float | None = None) -> Record:
    return Record(
        key=body.text("key"),
        value=_read_value(body),
        create_revision=body.integer("create_revision"),
        mod_revision=body.integer("mod_revision"),
        version=body.integer("version"),
        lease=body.integer("lease") if body.has("lease") else 0,
        staleness=staleness,
    )


def _read_value(body: Fields) -> bytes:
    name = "value_base64" if body.has("value_base64") else "value"
    text = body.text(name)
    try:
        return base64.b64decode(text, validate=True) if name == "value_base64" else text.encode("utf-8")
    except ValueError:  # of which both binascii.Error and UnicodeEncodeError are kinds
        raise body.wrong(name, "base64" if name == "value_base64" else "UTF-8 text") from None


def _read_raw(answer: Answer) -> bytes:
    # Any page of any server would do for raw bytes, so the type is what tells a value from it.
    found = answer.headers.get("content-type", "")
    if found.partition(";")[0].strip().lower() != _RAW:
        raise UnexpectedAnswer(answer.status, f"Content-Type: found {found!r}, expected {_RAW!r}")
    return answer.body


def _read_status(body: Fields) -> Status:
    alarms = body.raw.get("alarms")
    return Status(
        node_id=body.text("node_id"),
        cluster_id=body.text("cluster_id"),
        role=body.text("role"),
        term=body.integer("term"),
        leader=body.text("leader") if body.has("leader") else None,
        commit_index=body.integer("commit_index"),
        applied_index=body.integer("applied_index"),
        first_index=body.integer("first_index"),
        last_index=body.integer("last_index"),
        snapshot_index=body.integer("snapshot_index"),
        revision=body.integer("revision"),
        compact_revision=body.integer("compact_revision"),
        keys=body.integer("keys"),
        digest=body.text("digest"),
        uptime=body.number("uptime"),
        version=body.text("version"),
        alarms=tuple(alarms) if isinstance(alarms, list) else (),
        raw=body.raw,
    )


def _read_cluster(body: Fields) -> Cluster:
    return Cluster(
        cluster_id=body.text("cluster_id"),
        leader=body.text("leader") if body.has("leader") else None,
        term=body.integer("term"),
        members=tuple(_read_member(member) for member in body.objects("members")),
        raw=body.raw,
    )


def _read_member(body: Fields) -> Member:
    return Member(
        id=body.text("id"),
        raft_addr=body.text("raft_addr"),
        rpc_addr=body.text("rpc_addr"),
        http_addr=body.text("http_addr"),
        role=body.text("role"),
        leader=body.boolean("leader"),
        match_index=body.integer("match_index") if body.has("match_index") else None,
        healthy=body.boolean("healthy") if body.has("healthy") else None,
        last_contact=body.number("last_contact") if body.has("last_contact") else None,
        promoting=body.raw.get("promoting") is True,
    )
