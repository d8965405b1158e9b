"""What one key does, one operation at a time: the sequential model that histories are compared with.

It knows get, put and delete with their conditions, revisions and versions, written down a second time and apart from
the store itself. A state may hold less than the store knows, since the client of a write of unknown outcome was never
told its revision; whoever sees it later fills the gap.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from raftkv.kvstore.commands import ABSENT, ANY, EXISTS, OK, PRECONDITION_FAILED
from raftkv.testing.history import Operation, OperationOutcome


class KeyState(NamedTuple):
    """The sequential model of one key.

    :ivar value: what it holds, ``None`` where there is no key.
    :ivar revision: its mod revision, 0 where the write that gave it never told.
    :ivar floor: every later write of this key has a larger revision than this one.
    :ivar version: writes since it was created.
    :ivar created: its create revision, 0 where not known.
    """

    value: bytes | None
    revision: int
    floor: int
    version: int
    created: int


EMPTY: Final = KeyState(None, 0, 0, 0, 0)


def step(state: KeyState, operation: Operation, revision_hint: int = 0) -> KeyState | None:
    """Let one operation take effect.

    :param revision_hint: the revision of a write whose client was not told, where a reader has seen it; 0 otherwise.
    :return: the state after it, or ``None`` where the operation cannot have had its answer in this state. For an
        operation of unknown outcome, ``None`` also says that it would change nothing.
    """
    if operation.kind == "get":
        return _step_get(state, operation)
    if operation.outcome is OperationOutcome.UNKNOWN:
        return _step_unknown(state, operation, revision_hint)
    result = operation.result
    if result is None:
        raise ValueError(f"an answered write needs a result: {operation}")
    if result[0] == PRECONDITION_FAILED:
        return _step_refused(state, operation.expect, result[1])
    if result[0] != OK:
        return None
    if operation.kind == "delete" and not result[2]:
        return state if state.value is None and operation.expect in (ANY, ABSENT) and result[1] >= state.floor else None
    met = _condition_met(state, operation.expect)
    if met is None or result[1] <= met.floor or (operation.kind == "delete" and met.value is None):
        return None
    return _written(met, operation, result[1], result[1])


def _step_get(state: KeyState, operation: Operation) -> KeyState | None:
    record = operation.record
    if record is None:
        return state if state.value is None else None
    value, created, revision, version, _ = record
    if state.value != value or state.version != version or (state.created and state.created != created):
        return None
    known = _with_revision(state, revision)
    if known is None or created > revision or (version == 1 and created != revision):
        return None
    return known._replace(created=created)


def _step_unknown(state: KeyState, operation: Operation, revision_hint: int) -> KeyState | None:
    met = _condition_met(state, operation.expect)
    if met is None or (operation.kind == "delete" and met.value is None):
        return None
    if revision_hint and revision_hint <= met.floor:
        return None
    return _written(met, operation, revision_hint, revision_hint or met.floor + 1)


def _step_refused(state: KeyState, expect: int, mod_revision: int) -> KeyState | None:
    if mod_revision == 0:  # there was no key, so the condition must have asked for one
        return state if state.value is None and expect not in (ANY, ABSENT) else None
    if state.value is None or expect in (ANY, EXISTS, mod_revision):
        return None
    return _with_revision(state, mod_revision)


def _condition_met(state: KeyState, expect: int) -> KeyState | None:
    """Return the state with what a condition that held tells of it, or ``None`` where it cannot have held."""
    if expect == ANY:
        return state
    if expect == ABSENT:
        return state if state.value is None else None
    if state.value is None:
        return None
    return state if expect == EXISTS else _with_revision(state, expect)


def _with_revision(state: KeyState, revision: int) -> KeyState | None:
    """Return the state with its mod revision now known to be ``revision``, or ``None`` where it cannot be."""
    if state.revision:
        return state if state.revision == revision else None
    if revision < state.floor:
        return None
    created = revision if state.version == 1 else state.created
    return state._replace(revision=revision, floor=revision, created=created)


def _written(state: KeyState, operation: Operation, revision: int, floor: int) -> KeyState:
    if operation.kind == "delete":
        return KeyState(None, 0, floor, 0, 0)
    created = state.created if state.value is not None else revision
    return KeyState(operation.value, revision, floor, state.version + 1, created)


def revision_taken(operation: Operation) -> int:
    """Return the revision that a write took by changing something, 0 where it changed nothing or is not known."""
    result = operation.result
    if result is None or result[0] != OK or (operation.kind == "delete" and not result[2]):
        return 0
    return int(result[1])
