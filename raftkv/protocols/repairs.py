"""The call ``log_entries``, by which a node whose log is damaged asks the others for what it lacks.

It goes over the RPC port, between nodes; any member answers, leading or not, damaged or not. Knows what question and
answer look like as values that msgpack carries, and their limits; what is missing, and who holds it, others know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from raftkv.errors import BadRequest, ProtocolViolation
from raftkv.interfaces import EntriesAnswer, EntriesRequest
from raftkv.raft.messages import Entry, EntryKind

LOG_ENTRIES: Final = "log_entries"  #: name of the call
MAX_ENTRIES: Final = 512  #: of one answer
MAX_ANSWER_BYTES: Final = 1024 * 1024  #: payloads of one answer; a single larger entry travels alone
_MAX_NUMBER: Final = 1 << 62
_NAMES: Final = ("anchor_index", "anchor_term", "first", "stop")
_KINDS: Final = {int(kind): kind for kind in EntryKind}


def encode_request(request: EntriesRequest) -> dict[str, Any]:
    """Return the arguments of the call."""
    return {name: getattr(request, name) for name in _NAMES}


def decode_request(arguments: Mapping[str, Any]) -> EntriesRequest:
    """Return what the arguments ask for.

    :raises raftkv.errors.BadRequest: nothing that makes sense.
    """
    numbers = [arguments.get(name) for name in _NAMES]
    if not all(type(number) is int and 0 < number < _MAX_NUMBER for number in numbers):
        raise BadRequest(f"{LOG_ENTRIES}: {', '.join(_NAMES)} must be positive numbers")
    request = EntriesRequest(**dict(zip(_NAMES, numbers, strict=True)))  # type: ignore[arg-type]  # checked above
    if not request.first <= request.stop <= request.anchor_index + 1:
        raise BadRequest(f"{LOG_ENTRIES}: found [{request.first}, {request.stop}) of {request.anchor_index}")
    return request


def encode_answer(answer: EntriesAnswer) -> dict[str, Any]:
    """Return the answer of the call."""
    return {
        "previous_term": answer.previous_term,
        "entries": [(entry.term, int(entry.kind), entry.payload) for entry in answer.entries],
        "is_damaged": answer.is_damaged,
    }


def decode_answer(request: EntriesRequest, value: Any) -> EntriesAnswer:
    """Return what an answer says.

    :raises raftkv.errors.ProtocolViolation: nothing that makes sense.
    """
    if not isinstance(value, Mapping):
        raise ProtocolViolation(f"{LOG_ENTRIES}: the answer is no map")
    previous_term, entries, is_damaged = (value.get(name) for name in ("previous_term", "entries", "is_damaged"))
    if (
        not (previous_term is None or (type(previous_term) is int and 0 <= previous_term < _MAX_NUMBER))
        or not isinstance(entries, tuple | list)
        or type(is_damaged) is not bool
        or len(entries) > min(MAX_ENTRIES, request.stop - request.first)
    ):
        raise ProtocolViolation(f"{LOG_ENTRIES}: the answer lacks something, or holds too much")
    return EntriesAnswer(
        previous_term=previous_term,
        entries=tuple(_decode_entry(index, entry) for index, entry in enumerate(entries, request.first)),
        is_damaged=is_damaged,
    )


def _decode_entry(index: int, value: Any) -> Entry:
    if (
        not isinstance(value, tuple | list)
        or len(value) != 3
        or type(value[0]) is not int
        or not 0 < value[0] < _MAX_NUMBER
        or type(value[1]) is not int
        or value[1] not in _KINDS
        or type(value[2]) is not bytes
    ):
        raise ProtocolViolation(f"{LOG_ENTRIES}: entry {index} of the answer is none")
    return Entry(index=index, term=value[0], kind=_KINDS[value[1]], payload=value[2])
