"""What events look like to clients: in JSON, and as Server-Sent Events (WHATWG HTML, section 9.2).

Each form of an event is made once, for however many watches: the event keeps it.
"""

from __future__ import annotations

import base64
from typing import Final

import orjson

from raftkv.interfaces import Record
from raftkv.watches import WatchEvent

_NAMES: Final = {False: b"put", True: b"delete"}


def event_json(event: WatchEvent, *, with_previous: bool) -> bytes:
    """Return an event in JSON, on one line without an end.

    :param with_previous: whether to tell what the key held before.
    """
    key = ("json", with_previous)
    forms = event.forms
    if forms is None:
        forms = event.forms = {}
    form = forms.get(key)
    if form is None:
        form = forms[key] = orjson.dumps(_document(event, with_previous=with_previous))
    return form


def event_text(event: WatchEvent, *, with_previous: bool, is_last: bool) -> bytes:
    """Return an event of a stream.

    :param is_last: whether it is the last of its revision, and so bears the id to resume behind.
    """
    key = ("text", with_previous, is_last)
    forms = event.forms
    form = forms.get(key) if forms is not None else None
    if form is None:
        data = event_json(event, with_previous=with_previous)
        name = _NAMES[event.is_delete]
        if is_last:
            form = b"event: %b\nid: %d\ndata: %b\n\n" % (name, event.revision, data)
        else:
            form = b"event: %b\ndata: %b\n\n" % (name, data)
        if event.forms is not None:
            event.forms[key] = form
    return form


def progress_text(revision: int) -> bytes:
    """Return the event that says how far a stream has come."""
    return b'event: progress\nid: %d\ndata: {"revision":%d}\n\n' % (revision, revision)


def compacted_text(compact_revision: int) -> bytes:
    """Return the event that ends a stream whose next events are no longer kept."""
    return b'event: compacted\ndata: {"compact_revision":%d}\n\n' % compact_revision


def overflow_text(revision: int) -> bytes:
    """Return the event that ends a stream whose reader is too slow."""
    return b'event: overflow\ndata: {"revision":%d}\n\n' % revision


def _document(event: WatchEvent, *, with_previous: bool) -> dict[str, object]:
    raw_key, record, previous = event.change
    key = raw_key.decode("utf-8", "backslashreplace")
    document: dict[str, object] = {"type": "delete" if record is None else "put"}
    document["kv"] = {"key": key, "mod_revision": event.revision} if record is None else _record(key, record)
    if with_previous:
        document["prev_kv"] = None if previous is None else _record(key, previous)
    return document


def _record(key: str, record: Record) -> dict[str, object]:
    value, create_revision, mod_revision, version, lease = record
    document: dict[str, object] = {"key": key}
    try:
        document["value"] = value.decode("utf-8")
    except UnicodeDecodeError:
        document["value_base64"] = base64.b64encode(value).decode("ascii")
    document["create_revision"] = create_revision
    document["mod_revision"] = mod_revision
    document["version"] = version
    document["lease"] = lease
    return document
