"""What a request says, checked: keys, query parameters, conditions, sessions, content types.

Pure functions from the bytes of a request to values that the store takes. Each refusal is a
:exc:`raftkv.errors.BadRequest` (or the error that its name says) naming the field and what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from raftkv.errors import BadRequest, Forbidden, TooLarge, UnsupportedMediaType
from raftkv.interfaces import Consistency
from raftkv.kvstore import commands
from raftkv.web.settings import SETTING_NAMES

CONSISTENCIES: Final[tuple[Consistency, ...]] = ("linearizable", "lease", "stale")
LARGEST_INTEGER: Final = 2**63 - 1  #: of revisions, leases, tokens and sequence numbers
MAX_CLIENT_ID_BYTES: Final = 128
MAX_STALE_SECONDS: Final = 31_536_000  #: a year, which nobody means

_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CLIENT_ID: Final = re.compile(rb"[!-+\--~]{1,%d}" % MAX_CLIENT_ID_BYTES)  # visible ASCII but for the comma
_ENTITY_TAG: Final = re.compile(rb'"(0|[1-9][0-9]{0,18})"')
_FENCE: Final = re.compile(rb"([^,\s]+)=([0-9]{1,19})")
_DECIMAL: Final = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")
_NUMBER: Final = re.compile(rb"[0-9]{1,19}")
_DEFAULT_PORTS: Final = {b"http": b":80", b"https": b":443"}
_JSON_TYPES: Final = frozenset({b"", b"application/json", b"application/x-www-form-urlencoded"})


def shown(data: bytes, limit: int = 80) -> str:
    """Return what a client sent in a form for a message: cut, and escaped where it is not text."""
    cut, more = data[:limit], "…" if len(data) > limit else ""
    try:
        return repr(cut.decode("utf-8")) + more
    except UnicodeDecodeError:
        return repr(cut)[1:] + more


# -- text -------------------------------------------------------------------------------------------------------------


def percent_decoded(field: str, raw: bytes) -> bytes:
    """Decode percent escapes, once.

    :param field: what it is, for the message.
    :raises BadRequest: a ``%`` without two hexadecimal digits.
    """
    if b"%" not in raw:
        return raw
    if _BROKEN_ESCAPE.search(raw) is not None:
        raise BadRequest(f"{field}: a % must be followed by two hexadecimal digits, found {shown(raw)}")
    return unquote_to_bytes(raw)


def query_parameters(query: bytes, allowed: Collection[str]) -> dict[str, bytes]:
    """Return the parameters of a query string.

    ``+`` is a space, as browsers and the libraries of most languages send it.

    :param allowed: the names that this endpoint has.
    :raises BadRequest: an unknown parameter, or one that came twice; the message names it.
    """
    parameters: dict[str, bytes] = {}
    if not query:
        return parameters
    for part in query.split(b"&"):
        if not part:
            continue
        raw_name, _, raw_value = part.partition(b"=")
        name = percent_decoded("query", raw_name.replace(b"+", b" ")).decode("utf-8", "backslashreplace")
        if name not in allowed:
            expected = ", ".join(sorted(allowed)) or "none"
            raise BadRequest(f"query: unknown parameter {name[:80]!r}; known here: {expected}")
        if name in parameters:
            raise BadRequest(f"query: parameter {name!r} is given more than once")
        parameters[name] = percent_decoded(f"query parameter {name!r}", raw_value.replace(b"+", b" "))
    return parameters


def checked_key(key: bytes, max_key_bytes: int, field: str = "key") -> tuple[bytes, str]:
    """Return a key, or a name, as the store compares it and as JSON shows it.

    :param field: what it is, for the message.
    :raises BadRequest: it is empty or not UTF-8.
    :raises TooLarge: it is longer than ``max_key_bytes``.
    """
    if not key:
        raise BadRequest(f"{field}: must not be empty")
    if len(key) > max_key_bytes:
        raise TooLarge(f"{field}: {len(key)} bytes; {SETTING_NAMES['max_key_bytes']} allows {max_key_bytes}")
    try:
        return key, key.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{field}: not valid UTF-8 at byte {error.start}: {shown(key)}") from None


def consistency_of(parameters: Mapping[str, bytes]) -> Consistency:
    """Return the consistency that a read asks for.

    :raises BadRequest: it is none of those that there are.
    """
    raw = parameters.get("consistency")
    if raw is None:
        return "linearizable"
    name = raw.decode("utf-8", "backslashreplace")
    if name not in CONSISTENCIES:
        raise BadRequest(f"consistency: {name[:80]!r} is not one of {', '.join(CONSISTENCIES)}")
    return name


def max_stale_of(parameters: Mapping[str, bytes], consistency: Consistency) -> float | None:
    """Return how many seconds a stale read may lag behind; ``None`` for whatever is at hand.

    :raises BadRequest: it is no such number, or the read is not a stale one: to ignore it would promise too much.
    """
    raw = parameters.get("max_stale")
    if raw is None:
        return None
    if consistency != "stale":
        raise BadRequest("max_stale: only for consistency=stale")
    if _DECIMAL.fullmatch(raw) is None or float(raw) > MAX_STALE_SECONDS:
        raise BadRequest(f"max_stale: expected a number of seconds from 0 to {MAX_STALE_SECONDS}, found {shown(raw)}")
    return float(raw)


# -- headers ----------------------------------------------------------------------------------------------------------


def check_origin(headers: Mapping[bytes, bytes]) -> None:
    """Refuse what another site's page makes a browser send.

    :raises Forbidden: there is an ``Origin``, and it is not the host that the request names.
    """
    origin = headers.get(b"origin")
    if origin is None:
        return
    scheme, _, authority = origin.lower().partition(b"://")
    # None for other schemes: a page of a browser's extension is not ours, whatever it is called.
    port = _DEFAULT_PORTS.get(scheme)
    host = headers.get(b"host", b"").lower()
    if port is None or not host or authority.removesuffix(port) != host.removesuffix(port):
        raise Forbidden(f"Origin {shown(origin)} differs from Host {shown(headers.get(b'host', b''))}")


def check_json_type(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a body that says it is something else than JSON.

    curl's form type passes: ``curl -d '{…}'`` sends it without being asked.

    :raises UnsupportedMediaType: it bears another type.
    """
    content_type = headers.get(b"content-type", b"")
    if content_type.partition(b";")[0].strip().lower() not in _JSON_TYPES:
        raise UnsupportedMediaType(f"Content-Type: expected application/json, found {shown(content_type)}")
    check_encoding(headers)


def check_encoding(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a compressed body, which would otherwise be stored, or parsed, as it came.

    :raises UnsupportedMediaType: there is a ``Content-Encoding``.
    """
    encoding = headers.get(b"content-encoding", b"")
    if encoding and encoding.lower() != b"identity":
        raise UnsupportedMediaType(f"Content-Encoding: only identity is understood, found {shown(encoding)}")


def wants_raw_bytes(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether ``Accept`` prefers ``application/octet-stream`` to JSON; at equal weight the first one named."""
    accept = headers.get(b"accept", b"")
    if b"octet-stream" not in accept.lower():
        return False
    best, best_weight = b"", 0.0
    for part in accept.lower().split(b","):
        name, _, parameters = part.partition(b";")
        weight = _weight(parameters)
        if name.strip() in (b"application/octet-stream", b"application/json") and weight > best_weight:
            best, best_weight = name.strip(), weight
    return best == b"application/octet-stream"


def _weight(parameters: bytes) -> float:
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def session_of(headers: Mapping[bytes, bytes]) -> tuple[bytes, int] | None:
    """Return client id and sequence number of a write that is to be applied once; ``None`` without the headers.

    :raises BadRequest: one of the two is missing, or either is malformed.
    """
    client_id = headers.get(b"x-client-id")
    sequence = headers.get(b"x-request-seq")
    if client_id is None and sequence is None:
        return None
    if client_id is None:
        raise BadRequest("X-Client-Id: missing; X-Request-Seq needs it")
    if sequence is None:
        raise BadRequest("X-Request-Seq: missing; X-Client-Id needs it")
    if _CLIENT_ID.fullmatch(client_id) is None:
        raise BadRequest(
            f"X-Client-Id: expected 1 to {MAX_CLIENT_ID_BYTES} visible ASCII characters without comma, "
            f"found {shown(client_id)}"
        )
    if _NUMBER.fullmatch(sequence) is None or int(sequence) > LARGEST_INTEGER:
        raise BadRequest(f"X-Request-Seq: expected a number from 0 to {LARGEST_INTEGER}, found {shown(sequence)}")
    return client_id, int(sequence)


def lock_of(headers: Mapping[bytes, bytes], max_key_bytes: int) -> tuple[bytes, int]:
    """Return name and token of the lock that a write with ``X-Lock`` depends on.

    :raises BadRequest: it is malformed: to ignore it would be to write without holding the lock.
    :raises TooLarge: the name is longer than ``max_key_bytes``.
    """
    fence = headers[b"x-lock"]
    found = _FENCE.fullmatch(fence)
    if found is None or not 0 < int(found[2]) <= LARGEST_INTEGER:
        raise BadRequest(f"X-Lock: expected name=token, the name percent-encoded, found {shown(fence)}")
    return checked_key(percent_decoded("X-Lock", found[1]), max_key_bytes, "X-Lock")[0], int(found[2])


def refuse_lock(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a lock where nothing can depend on one.

    :raises BadRequest: the request names one.
    """
    if b"x-lock" in headers:
        raise BadRequest("X-Lock: only writes of keys, leases and locks can depend on a lock")


# -- conditions -------------------------------------------------------------------------------------------------------


def entity_tag(mod_revision: int) -> bytes:
    """Return the ``ETag`` of a record."""
    return b'"%d"' % mod_revision


def expectation_of(headers: Mapping[bytes, bytes]) -> int:
    """Return the ``expect`` of a conditional PUT or DELETE, as :mod:`raftkv.kvstore.commands` has it.

    :raises BadRequest: a condition that is malformed or not understood; to ignore it would lose an update.
    """
    if_match = headers.get(b"if-match")
    if_none_match = headers.get(b"if-none-match")
    if if_none_match is not None:
        if if_match is not None:
            raise BadRequest("If-None-Match: cannot be combined with If-Match")
        if if_none_match != b"*":
            raise BadRequest(f"If-None-Match: only * is understood for a write, found {shown(if_none_match)}")
        return commands.ABSENT
    if if_match is None:
        return commands.ANY
    if if_match == b"*":
        return commands.EXISTS
    found = _ENTITY_TAG.fullmatch(if_match)
    if found is None or not 0 < int(found[1]) <= LARGEST_INTEGER:
        raise BadRequest(f'If-Match: expected * or one mod_revision in quotes, as "7", found {shown(if_match)}')
    return int(found[1])


def refuse_conditions(headers: Mapping[bytes, bytes]) -> None:
    """Refuse the headers of a condition where none can be made: the write would go ahead without it.

    :raises BadRequest: there is one.
    """
    for name, label in ((b"if-match", "If-Match"), (b"if-none-match", "If-None-Match")):
        if name in headers:
            raise BadRequest(f"{label}: conditional writes are made with PUT and DELETE of /v1/kv/{{key}}")


def tag_is_listed(listed: bytes, tag: bytes, *, weakly: bool) -> bool:
    """Tell whether an ``If-Match`` or ``If-None-Match`` of a read names a tag.

    :param weakly: whether a weak tag is as good (RFC 9110, 13.1): ours never are, but a cache in between may have
        weakened one. It is for ``If-None-Match``, and is not for ``If-Match``.
    """
    tags = (part.strip() for part in listed.split(b","))
    return any((part.removeprefix(b"W/") if weakly else part) in (tag, b"*") for part in tags)
