"""The log of a cluster, carried out once more: the ground truth that everything else is compared with.

Whichever node is the first to apply an entry, its commands go to the plain store as well; what any node answers to
them must be what the plain store answers. So the whole order of revisions is known, and nobody has to search for one:
an answer that a client was given, or a state that it saw, has its place in the log, and is right there or nowhere.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import msgpack

from raftkv.interfaces import Command, Result
from raftkv.kvstore.commands import SESSION
from raftkv.raft.messages import Entry, EntryKind
from raftkv.testing.checkers import Violation
from raftkv.testing.plainstore import PlainStore
from raftkv.testing.queries import Moment

#: What a write is known by: client and sequence number in a session, else the command itself, which nobody else sends.
Name = tuple[bytes, int] | Command


@dataclass(frozen=True, slots=True)
class Applied:
    """A command that was applied, when it was for the first time: repeats in a session are left out.

    :ivar place: its number among all of them, in the order of the log.
    :ivar index: of its entry.
    :ivar at: virtual time at which the first node applied it.
    :ivar cluster_time_ms: of the state machine at it.
    :ivar command: without the session around it.
    """

    name: Name
    place: int
    index: int
    at: float
    cluster_time_ms: int
    command: Command
    result: Result


class Replay:
    """The plain store behind the last entry that any node has applied, and what it was behind each of them.

    :ivar plain: the plain store.
    :ivar applied: all commands in the order of the log.
    :ivar excused: what nodes answered whose state was known to be wrong, by the name of the write.
    """

    def __init__(self) -> None:
        self.plain = PlainStore()
        self.applied: list[Applied] = []
        self.excused: dict[Name, list[Result]] = {}
        self._results: list[Sequence[Result]] = [()]  # by index
        self._names: list[Sequence[Name]] = [()]
        self._moments = [Moment.of(self.plain)]
        self._times = [0.0]
        self._seen: set[Name] = set()

    @property
    def index(self) -> int:
        """The last entry that was applied anywhere."""
        return len(self._results) - 1

    def results(self, index: int) -> Sequence[Result]:
        """Return the right answers to the commands of an entry."""
        return self._results[index]

    def moment(self, index: int) -> Moment:
        """Return what there was behind an entry."""
        return self._moments[index]

    def time(self, index: int) -> float:
        """Return when the first node applied an entry."""
        return self._times[index]

    def index_of_revision(self, revision: int) -> int:
        """Return the entry at which a revision came to be; one behind the last if it has not."""
        return bisect_left(self._moments, revision, key=lambda moment: moment.revision)

    def note(self, name: str, entry: Entry, results: Sequence[Result], *, now: float, is_excused: bool) -> None:
        """Take note of what a node answered to the commands of an entry.

        :param name: of the node.
        :param is_excused: whether its state is known to be wrong.
        :raises Violation: its answers are.
        """
        if entry.index > self.index + 1:
            raise ValueError(f"entry {entry.index} was applied before {self.index + 1} by {name}")
        if entry.index == self.index + 1:
            self._carry_out(entry, now)
        right = self._results[entry.index]
        if list(results) == list(right):
            return
        if not is_excused:
            raise Violation("wrong result", f"{name} answers {list(results)} to {entry}, the plain store {list(right)}")
        for each, found, expected in zip(self._names[entry.index], results, right, strict=True):
            if found != expected:
                self.excused.setdefault(each, []).append(found)

    def _carry_out(self, entry: Entry, now: float) -> None:
        self._times.append(now)
        if entry.kind is not EntryKind.COMMANDS:
            self._results.append(())
            self._names.append(())
            self._moments.append(self._moments[-1])
            return
        _, cluster_time_ms, _, commands = msgpack.unpackb(entry.payload, use_list=False)
        results = self.plain.apply(cluster_time_ms, commands)
        self._results.append(results)
        self._names.append([name_of(command) for command in commands])
        self._moments.append(Moment.of(self.plain))
        for command, result in zip(commands, results, strict=True):
            self._remember(command, result, entry.index, now)

    def _remember(self, command: Command, result: Result, index: int, now: float) -> None:
        name = name_of(command)
        if command[0] == SESSION:
            if name in self._seen:
                return
            self._seen.add(name)
            command = command[4]
        self.applied.append(Applied(name, len(self.applied), index, now, self.plain.cluster_time_ms, command, result))


def name_of(command: Command) -> Name:
    """Return what a command of the log is known by."""
    return (command[1], command[2]) if command[0] == SESSION else command
