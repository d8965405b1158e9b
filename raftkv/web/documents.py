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
from raftkv.web.parameters import LARGEST_INTEGER
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
        raise BadRequest(f"body: expected a JSON object, found {kind_of(document)}")
    _refuse_repeated_names(body, document)
    refuse_unknown(document, allowed)
    return document


def refuse_unknown(document: dict[str, Any], allowed: Collection[str], where: str = "body") -> None:
    """Refuse an object that has fields nobody knows: a misspelt name must not be ignored.

    :param where: which object it is, for the message.
    :raises BadRequest: it has one; the message names it.
    """
    for name in document:
        if name not in allowed:
            known = ", ".join(sorted(allowed))
            raise BadRequest(f"{where}: unknown field {name[:80]!r}; known here: {known}")


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


def text_field(document: dict[str, Any], name: str, where: str = "") -> str:
    """Return a field that must be there and be a string.

    :param where: what stands before the name in a message; likewise below. It is empty, or ends with a dot.
    :raises BadRequest: it is not.
    """
    if name not in document:
        raise BadRequest(f"{where}{name}: missing")
    value = document[name]
    if type(value) is not str:
        raise BadRequest(f"{where}{name}: expected a string, found {kind_of(value)}")
    return value


def value_field(document: dict[str, Any], max_value_bytes: int, where: str = "") -> bytes:
    """Return the value, in either spelling.

    :raises BadRequest: neither or both of ``value`` and ``value_base64``, or no Base64.
    :raises TooLarge: it is larger than ``max_value_bytes``.
    """
    if "value_base64" not in document:
        value = text_field(document, "value", where).encode("utf-8")
    elif "value" in document:
        raise BadRequest(f"{where}value: give either value or value_base64, not both")
    else:
        try:
            value = base64.b64decode(text_field(document, "value_base64", where), validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadRequest(f"{where}value_base64: not Base64 (RFC 4648, section 4): {error}") from None
    check_value(value, max_value_bytes, where)
    return value


def check_value(value: bytes, max_value_bytes: int, where: str = "") -> None:
    """Refuse a value that is too large.

    :raises TooLarge: it is.
    """
    if len(value) > max_value_bytes:
        raise TooLarge(f"{where}value: {len(value)} bytes; {SETTING_NAMES['max_value_bytes']} allows {max_value_bytes}")


def number_field(
    document: dict[str, Any],
    name: str,
    where: str = "",
    *,
    lowest: int,
    highest: int = LARGEST_INTEGER,
    default: int | None = None,
) -> int:
    """Return a field that must be a whole number.

    :param default: what a missing field means; ``None`` where it must be there.
    :raises BadRequest: it is missing, or no such number: ``true`` is none, nor is ``1.0``.
    """
    if name not in document and default is not None:
        return default
    if name not in document:
        raise BadRequest(f"{where}{name}: missing")
    value = document[name]
    if type(value) is not int or not lowest <= value <= highest:
        found = _shown_number(value) if type(value) in (int, float) else kind_of(value)
        raise BadRequest(f"{where}{name}: expected a whole number from {lowest} to {highest}, found {found}")
    return value


def milliseconds_field(
    document: dict[str, Any],
    name: str,
    *,
    lowest: float,
    highest: float,
    settings: str,
    default: float | None = None,
) -> int:
    """Return a field that must be a number of seconds, in milliseconds.

    :param settings: where the bounds come from, for the message.
    :param default: what a missing field means, in seconds; ``None`` where it must be there.
    :raises BadRequest: it is missing, or no such number.
    """
    if name not in document and default is None:
        raise BadRequest(f"{name}: missing")
    value: Any = document.get(name, default)
    if type(value) not in (int, float) or not lowest <= value <= highest:
        found = _shown_number(value) if type(value) in (int, float) else kind_of(value)
        raise BadRequest(
            f"{name}: expected a number of seconds from {lowest:g} to {highest:.10g} ({settings}), found {found}"
        )
    seconds: float = value
    return round(seconds * 1000)


def flag_field(document: dict[str, Any], name: str, where: str = "") -> bool:
    """Return a field that must be ``true`` or ``false``, and is the latter where it is missing.

    :raises BadRequest: it is something else.
    """
    value = document.get(name, False)
    if type(value) is not bool:
        raise BadRequest(f"{where}{name}: expected true or false, found {kind_of(value)}")
    return value


def objects_field(document: dict[str, Any], name: str, where: str = "") -> list[dict[str, Any]]:
    """Return a field that must be a list of objects, and is empty where it is missing.

    :raises BadRequest: it is something else.
    """
    values = document.get(name, [])
    if type(values) is not list:
        raise BadRequest(f"{where}{name}: expected a list, found {kind_of(values)}")
    for number, value in enumerate(values):
        if type(value) is not dict:
            raise BadRequest(f"{where}{name}[{number}]: expected an object, found {kind_of(value)}")
    return values


# -- what answers are made of -----------------------------------------------------------------------------------------


def record_document(key: str, record: Record, *, with_value: bool = True) -> dict[str, object]:
    """Return what JSON tells of a record.

    A value that is not UTF-8 comes as ``value_base64`` in place of ``value``; a lease only where there is one.
    """
    value, create_revision, mod_revision, version, lease = record
    document: dict[str, object] = {"key": key}
    if with_value:
        try:
            document["value"] = value.decode("utf-8")
        except UnicodeDecodeError:
            document["value_base64"] = base64.b64encode(value).decode("ascii")
    document["create_revision"] = create_revision
    document["mod_revision"] = mod_revision
    document["version"] = version
    if lease:
        document["lease"] = lease
    return document


def seconds_of(milliseconds: int) -> int | float:
    """Return milliseconds as JSON tells them: in seconds, without a fraction where there is none."""
    return milliseconds // 1000 if milliseconds % 1000 == 0 else milliseconds / 1000


def json_bytes(document: object) -> bytes:
    """Return the JSON of an answer: on one line, which ends, so that a terminal stays readable."""
    return orjson.dumps(document, None, LINE)


def _shown_number(value: float) -> str:
    """Return a number for a message: a client can make it as long as a body may be."""
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"


def kind_of(value: object) -> str:
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
