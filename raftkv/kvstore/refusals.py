"""Which error an answer of the state machine stands for: one table for all who tell answers to people."""

from __future__ import annotations

from raftkv import errors
from raftkv.kvstore import commands
from raftkv.kvstore.commands import FENCED, LOCK, SESSION, UNLOCK, Command, Result


def refusal_of(command: Command, result: Result) -> errors.RaftKVError | None:
    """Return the error that an answer tells, ``None`` where the command was carried out.

    :param command: what was answered, in a session or not.
    :raises InvariantViolation: there is no such answer.
    """
    status = result[0]
    if status == commands.OK:
        return None
    if status == commands.PRECONDITION_FAILED:
        return errors.PreconditionFailed(result[1])
    if status == commands.SEQUENCE_TOO_OLD:
        return errors.SequenceTooOld()
    if status == commands.SEQUENCE_REUSED:
        return errors.SequenceReused()
    if status == commands.LEASE_NOT_FOUND:
        return errors.LeaseNotFound(result[1])
    if status == commands.COMPACTED:
        return errors.Compacted(result[1])
    if status == commands.FUTURE_REVISION:
        return errors.FutureRevision(result[1])
    if status == commands.NOT_A_NUMBER:
        return errors.Conflict("the value is not a decimal number of 64 bits")
    if status == commands.OUT_OF_RANGE:
        return errors.Conflict("the sum would not fit into 64 bits")
    if status == commands.LOCK_HELD:
        return errors.LockHeld(_innermost(command)[2], result[1])
    if status == commands.LOCK_NOT_HELD:
        return errors.LockNotHeld(_lock_of(command), result[1])
    if status == commands.ANSWER_NOT_KEPT:
        return errors.AnswerNotKept(result[1])
    if status == commands.TRANSACTION_REFUSED:
        return errors.BadRequest("op: a key is written twice")
    if status == commands.ANSWER_TOO_LARGE:
        limit = commands.MAX_READ_BYTES
        return errors.TooLarge(f"op: the keys and values that the transaction reads are more than {limit} bytes")
    raise errors.InvariantViolation(f"the state machine answered {result!r}")


def _lock_of(command: Command) -> bytes:
    inner = command[4] if command[0] == SESSION else command
    name: bytes = inner[2] if inner[0] in (FENCED, LOCK, UNLOCK) else b""
    return name


def _innermost(command: Command) -> Command:
    while command[0] in (SESSION, FENCED):
        command = command[4]
    return command
