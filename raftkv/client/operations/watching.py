"""The request that opens a watch, and the reading of its events."""

from __future__ import annotations

from typing import NoReturn

from raftkv.client.answers import Answer, Fields
from raftkv.client.model import Event, EventType
from raftkv.client.operations.base import (
    Operation,
    Query,
    query_string,
    range_fields,
    read_record,
    seconds_text,
)
from raftkv.client.results import UnexpectedAnswer, key_bytes
from raftkv.client.spelling import positive
from raftkv.errors import BadRequest


def watch(
    *,
    key: str | bytes | None = None,
    prefix: str | bytes | None = None,
    start: str | bytes | None = None,
    end: str | bytes | None = None,
    from_revision: int | None = None,
    only: EventType | None = None,
    previous: bool = True,
    progress_seconds: float,
) -> Operation[NoReturn]:
    """Open a stream of events. A good answer never comes to an end, so there is nothing to read it with.

    :param from_revision: the first revision to be told.
    :param only: only events of this type.
    :param previous: whether events bear what was there before.
    :param progress_seconds: how often the server shall say at least that it is still there.
    :raises BadRequest: what is asked for makes no sense.
    """
    query: Query = list(range_fields(prefix, start, end).items())
    if key is not None:
        if query:
            raise BadRequest("key: give only one of key, prefix, or start and end")
        query.append(("key", key_bytes(key)))
    if from_revision is not None:
        query.append(("from_revision", str(positive("from_revision", from_revision))))
    if only is not None:
        if only not in ("put", "delete"):
            raise BadRequest(f"only: found {only!r}, expected put or delete")
        query.append(("filter", only))
    if not previous:
        query.append(("prev_kv", "false"))
    query.append(("progress", seconds_text("progress", progress_seconds)))
    return Operation(
        method="GET",
        target="/v1/watch" + query_string(query),
        headers={"Accept": "text/event-stream"},
        read=_never,
    )


def read_event(body: Fields) -> Event:
    """Read an event out of the data of its message."""
    kind = body.text("type")
    changed = body.object("kv")
    record = None
    if kind == "put":
        record = read_record(changed)
    elif kind != "delete":
        raise body.wrong("type", "put or delete")
    return Event(
        type="put" if kind == "put" else "delete",
        key=changed.text("key"),
        revision=changed.integer("mod_revision"),
        record=record,
        previous=read_record(body.object("prev_kv")) if body.has("prev_kv") else None,
        is_last=False,
    )


def _never(answer: Answer) -> NoReturn:
    raise UnexpectedAnswer(answer.status, "expected a stream of events, and this answer is none")
