"""Whether a transaction writes one key twice, told from its operations alone, whatever the state.

As a key has one record for each revision, one revision cannot write it twice. A delete of a range counts as a write of
every key in it. Of the two lists of a transaction only one runs, so they may write the same keys; whatever stands
beside the transaction may not.
"""

from __future__ import annotations

from raftkv.errors import BadRequest
from raftkv.kvstore.commands import DELETE, DELETE_RANGE, PUT, TXN, Command, Operation

Writes = list[tuple[bytes, bytes]]  #: ranges that are written, each a start and an end; ``b""`` for no upper end


def writes_of(operation: Operation) -> Writes:
    """Return the ranges that an operation writes.

    :param operation: well-formed.
    :raises BadRequest: a list in it writes one key twice.
    """
    code = operation[0]
    if code in (PUT, DELETE):
        return [(operation[2], operation[2] + b"\x00")]
    if code == DELETE_RANGE:
        start, end = operation[2:4]
        return [(start, end)] if not end or start < end else []
    if code == TXN:
        return _writes_of_list(operation[3]) + _writes_of_list(operation[4])
    return []


def _writes_of_list(operations: tuple[Command, ...]) -> Writes:
    """Return the ranges that a list of operations writes; no two of different operations have a key in common."""
    told: list[tuple[bytes, bytes, int]] = []
    for number, operation in enumerate(operations):
        told += [(start, end, number) for start, end in writes_of(operation)]
    told.sort()
    # In the order of their starts, a range overlaps with an earlier one if that reaches beyond its start. It is enough
    # to remember who reaches furthest, and who does of all others, for an operation may overlap with itself.
    furthest: list[tuple[bytes | None, int]] = []
    for start, end, number in told:
        for reached, other in furthest:
            if other != number and (reached is None or reached > start):
                raise BadRequest(f"op: the key {start.decode('utf-8', 'backslashreplace')!r} is written twice")
        furthest = _two_furthest([*furthest, (end or None, number)])
    return [(start, end) for start, end, _ in told]


def _two_furthest(reached: list[tuple[bytes | None, int]]) -> list[tuple[bytes | None, int]]:
    """Return the furthest end, and the furthest end of any other operation."""
    reached.sort(key=lambda each: (each[0] is None, each[0] or b""), reverse=True)
    first = reached[0]
    return [first, *[each for each in reached[1:] if each[1] != first[1]][:1]]
