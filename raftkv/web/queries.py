"""What the parameters of a query say, checked: numbers, flags, durations, ranges of keys.

Each refusal is a :exc:`raftkv.errors.BadRequest` naming the parameter and what would be right. That there are only
parameters that the endpoint knows, and each once, has been seen to before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from raftkv.errors import BadRequest, TooLarge
from raftkv.web.parameters import LARGEST_INTEGER, shown
from raftkv.web.settings import SETTING_NAMES

Parameters = Mapping[str, bytes]

_NUMBER: Final = re.compile(rb"[0-9]{1,19}")
_DECIMAL: Final = re.compile(rb"[0-9]{1,12}(\.[0-9]{1,9})?")
_FLAGS: Final = {b"true": True, b"1": True, b"false": False, b"0": False}


def number(field: str, raw: bytes, *, lowest: int = 1, highest: int = LARGEST_INTEGER) -> int:
    """Return a whole number.

    :param field: what it is, for the message.
    :raises BadRequest: it is none, or out of bounds.
    """
    if _NUMBER.fullmatch(raw) is None or not lowest <= int(raw) <= highest:
        raise BadRequest(f"{field}: expected a whole number from {lowest} to {highest}, found {shown(raw)}")
    return int(raw)


def number_of(
    parameters: Parameters, name: str, *, lowest: int = 1, highest: int = LARGEST_INTEGER, default: int = 0
) -> int:
    """Return a parameter that must be a whole number.

    :param default: what a missing one means.
    :raises BadRequest: it is no such number.
    """
    raw = parameters.get(name)
    return default if raw is None else number(name, raw, lowest=lowest, highest=highest)


def flag_of(parameters: Parameters, name: str) -> bool:
    """Return a parameter that must be ``true`` or ``false``, and is the latter where it is missing.

    :raises BadRequest: it is something else.
    """
    raw = parameters.get(name)
    if raw is None:
        return False
    if raw not in _FLAGS:
        raise BadRequest(f"{name}: expected true or false, found {shown(raw)}")
    return _FLAGS[raw]


def milliseconds_of(parameters: Parameters, name: str, *, lowest: float, highest: float, settings: str) -> int:
    """Return a parameter that must be a number of seconds, in milliseconds; 0 where it is missing.

    :param settings: where the bounds come from, for the message.
    :raises BadRequest: it is no such number.
    """
    raw = parameters.get(name)
    if raw is None:
        return 0
    if _DECIMAL.fullmatch(raw) is None or not lowest <= float(raw) <= highest:
        raise BadRequest(
            f"{name}: expected a number of seconds from {lowest:g} to {highest:.10g} ({settings}), found {shown(raw)}"
        )
    return round(float(raw) * 1000)


def text_of(parameters: Parameters, name: str, max_bytes: int) -> bytes | None:
    """Return a parameter that must be UTF-8; ``None`` where it is missing.

    :raises BadRequest: it is not UTF-8.
    :raises TooLarge: it is longer than a key may be.
    """
    raw = parameters.get(name)
    return None if raw is None else checked_edge(name, raw, max_bytes)


def checked_edge(field: str, raw: bytes, max_bytes: int) -> bytes:
    """Return a prefix or the edge of a range; it is like a key, but may be empty.

    :raises BadRequest: it is not UTF-8.
    :raises TooLarge: it is longer than a key may be.
    """
    if len(raw) > max_bytes:
        raise TooLarge(f"{field}: {len(raw)} bytes; {SETTING_NAMES['max_key_bytes']} allows {max_bytes}")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{field}: not valid UTF-8 at byte {error.start}: {shown(raw)}") from None
    return raw
