"""Which writes share an entry or a request, and how large a write may be.

Knows sizes and nothing of the log. The bounds of the wire are counted here, before anything is proposed or forwarded:
an entry that no message can carry would be in the leader's log for good, and nothing behind it could be replicated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from raftkv.errors import RaftKVError
from raftkv.interfaces import Command, Result
from raftkv.kvstore.checking import size_of as size_of_command
from raftkv.kvstore.commands import (
    COMPACT,
    DELETE,
    DELETE_RANGE,
    EXPIRE,
    EXPIRE_SESSIONS,
    FENCED,
    GET,
    GRANT,
    KEEPALIVE,
    LOCK,
    PUT,
    RANGE,
    REVOKE,
    SESSION,
    TXN,
    UNLOCK,
)
from raftkv.protocols.framing import KIB, MIB, FrameLimits

Done = Callable[[Sequence[Result] | RaftKVError], None]

#: Payload of an entry: one message between nodes must hold it together with what stands around it.
MAX_ENTRY_BYTES: Final = FrameLimits().max_message_bytes - 64 * KIB
#: What leaves the state no larger than it was, beside the transactions that hold nothing else.
_FRUGAL: Final = frozenset(
    {GET, RANGE, DELETE, DELETE_RANGE, COMPACT, KEEPALIVE, REVOKE, EXPIRE, EXPIRE_SESSIONS, UNLOCK}
)
#: What one command takes besides its keys and values, and likewise each operation and compare of a transaction: an
#: array with its elements as Python keeps them, the place in a batch, the answer.
COMMAND_BYTES: Final = 256
#: Keys and values of one write: with what a command adds to them it must fit into an entry, and into one request.
MAX_WRITE_BYTES: Final = 7 * MIB


@dataclass(slots=True, kw_only=True, eq=False)
class Submission:
    """A write that somebody waits for.

    :ivar forwarded: another node sent it here.
    :ivar size_bytes: of its keys and values.
    :ivar weight_bytes: what it takes while it waits: those, and :data:`COMMAND_BYTES` for each of its parts.
    :ivar arrived: when, on the monotonic clock.
    """

    commands: Sequence[Command]
    done: Done
    forwarded: bool
    size_bytes: int
    weight_bytes: int
    arrived: float


def batches(submissions: Sequence[Submission], *, max_bytes: int, max_commands: int) -> Iterator[list[Submission]]:
    """Yield all submissions in their order, in groups within bounds; one that exceeds them alone is a group too."""
    batch: list[Submission] = []
    commands = size_bytes = 0
    for submission in submissions:
        commands += len(submission.commands)
        size_bytes += submission.size_bytes
        if batch and (size_bytes > max_bytes or commands > max_commands):
            yield batch
            batch, commands, size_bytes = [], len(submission.commands), submission.size_bytes
        batch.append(submission)
    if batch:
        yield batch


def commands_of(batch: Sequence[Submission]) -> list[Command]:
    """Return the commands of a batch, in order."""
    return [command for submission in batch for command in submission.commands]


def measure(commands: Sequence[Command]) -> tuple[int, int]:
    """Return the bytes of all keys and values, and those with what each command and each part of one takes besides."""
    size, parts = 0, len(commands)
    for command in commands:
        inner = command[4] if command[0] == SESSION else command
        if inner[0] == PUT:
            size += len(inner[2]) + len(inner[3])
        else:
            size += size_of_command(inner)
            parts += _arrays_in(inner)
    return size, size + COMMAND_BYTES * parts


def _arrays_in(command: Command) -> int:
    """Return how many arrays there are in a command, at any depth: of a transaction, the operations and compares."""
    arrays = [part for part in command if type(part) is tuple]
    return len(arrays) + sum(map(_arrays_in, arrays))


def makes_lease(command: Command) -> bool:
    """Tell whether a command makes a lease if it is carried out."""
    inner = _innermost(command)
    return inner[0] == GRANT or (inner[0] == PUT and len(inner) == 7) or (inner[0] == LOCK and not inner[3])


def makes_ticket(command: Command) -> bool:
    """Tell whether a command asks for a lock."""
    return bool(_innermost(command)[0] == LOCK)


def needs_room(commands: Sequence[Command]) -> bool:
    """Tell whether some of these commands make the state larger: they wait until there is room on the disks (B50).

    Those that end or delete something do not, nor those that keep leases alive: the keys would go otherwise.
    """
    for command in map(_innermost, commands):
        if command[0] == TXN:
            if needs_room(command[3]) or needs_room(command[4]):
                return True
        elif command[0] not in _FRUGAL:
            return True
    return False


def may_answer_much(commands: Sequence[Command]) -> bool:
    """Tell whether the answers may fill a message, which should hold no others then: a transaction reads."""
    return any(_reads(command) for command in map(_innermost, commands) if command[0] == TXN)


def _reads(transaction: Command) -> bool:
    _, _, _, success, failure = transaction
    operations = (*success, *failure)
    return any(each[0] in (GET, RANGE) or (each[0] == TXN and _reads(each)) for each in operations)


def _innermost(command: Command) -> Command:
    while command[0] in (SESSION, FENCED):
        command = command[4]
    return command
