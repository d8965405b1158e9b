"""The JSON that requests bring and that answers are made of."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection
from typing import Any, Final

import orjson

from raftkv.errors import BadRequest, TooLarge
from raftkv.interfaces import Record
from raftkv.web.settings import SETTING_NAMES

LINE: Final = orjson.OPT_APPEND_NEWLINE  #: what :func:`json_bytes` asks for; a call of it costs the fast lane 1 %
MAX_STRUCTURE_BYTES: Final = 256 * 1024  #: of a document, outside of its strings


def json_object(body: bytes, allowed: Collection[str]) -> dict[str, Any]:
    """Return the object that a body holds.

    :param allowed: the names of the fields that this endpoint has.
    :raises BadRequest: malformed JSON, no object, an unknown field or one that is there twice; the message names it.
    :raises TooLarge: it has too much in it beside its strings.
    """
    if not body:
        raise BadRequest("body: empty; expected a JSON object")
    if len(body) > MAX_STRUCTURE_BYTES:
        _check_structure(body)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"body: malformed JSON: {error}") from None
    if type(document) is not dict:
        raise BadRequest(f"body: expected a JSON object, found {_kind(document)}")
    _refuse_repeated_names(body, document)
    for name in document:
        if name not in allowed:
            known = ", ".join(sorted(allowed))
            raise BadRequest(f"body: unknown field {name[:80]!r}; known here: {known}")
    return document


def _check_structure(body: bytes) -> None:
    """Refuse a document that would keep the node busy for seconds: millions of lists, objects, numbers or names."""
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Between two strings stands at least a comma or a colon, so that many of them are too much structure as well.
    strings = text.count(b'"') // 2
    if strings > MAX_STRUCTURE_BYTES or sum(map(len, text.split(b'"')[::2])) > MAX_STRUCTURE_BYTES:
        raise TooLarge(f"body: more than {MAX_STRUCTURE_BYTES} bytes outside of its strings")


def _refuse_repeated_names(body: bytes, document: dict[str, Any]) -> None:
    """Refuse an object that has one name twice, at any depth: parsers disagree on which of the two counts."""
    if b"\\" not in body and body.count(b'"') == 4 * len(document) and all(type(v) is str for v in document.values()):
        # The fields that are left account for every quote, so the parser has dropped none. Nearly every request ends
        # here, for a seventh of the cost of parsing it anew.
        return
    try:
        json.loads(body, object_pairs_hook=_pairs, parse_int=str, parse_float=str)
    except RecursionError:
        raise BadRequest("body: nested too deeply") from None


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    names = set()
    for name, _ in pairs:
        if name in names:
            raise BadRequest(f"body: field {name[:80]!r} is given more than once")
        names.add(name)


def text_field(document: dict[str, Any], name: str) -> str:
    """Return a field that must be there and be a string.

    :raises BadRequest: it is not.
    """
    if name not in document:
        raise BadRequest(f"{name}: missing")
    value = document[name]
    if type(value) is not str:
        raise BadRequest(f"{name}: expected a string, found {_kind(value)}")
    return value


def value_field(document: dict[str, Any], max_value_bytes: int) -> bytes:
    """Return the value, in either spelling.

    :raises BadRequest: neither or both of ``value`` and ``value_base64``, or no Base64.
    :raises TooLarge: it is larger than ``max_value_bytes``.
    """
    if "value_base64" not in document:
        value = text_field(document, "value").encode("utf-8")
    elif "value" in document:
        raise BadRequest("value: give either value or value_base64, not both")
    else:
        try:
            value = base64.b64decode(text_field(document, "value_base64"), validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadRequest(f"value_base64: not Base64 (RFC 4648, section 4): {error}") from None
    check_value(value, max_value_bytes)
    return value


def check_value(value: bytes, max_value_bytes: int) -> None:
    """Refuse a value that is too large.

    :raises TooLarge: it is.
    """
    if len(value) > max_value_bytes:
        raise TooLarge(f"value: {len(value)} bytes; {SETTING_NAMES['max_value_bytes']} allows {max_value_bytes}")


def record_document(key: str, record: Record) -> bytes:
    """Return the JSON of a record.

    A value that is not UTF-8 comes as ``value_base64`` in place of ``value``.
    """
    value, create_revision, mod_revision, version, _ = record
    document: dict[str, object] = {"key": key}
    try:
        document["value"] = value.decode("utf-8")
    except UnicodeDecodeError:
        document["value_base64"] = base64.b64encode(value).decode("ascii")
    document["create_revision"] = create_revision
    document["mod_revision"] = mod_revision
    document["version"] = version
    return orjson.dumps(document, None, LINE)


def json_bytes(document: object) -> bytes:
    """Return the JSON of an answer: on one line, which ends, so that a terminal stays readable."""
    return orjson.dumps(document, None, LINE)


def _kind(value: object) -> str:
    """Return what JSON calls a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"
