"""Whether a history could have come from one store that does one operation at a time.

The search is Wing and Gong's (1993) with Lowe's memoisation of configurations already seen (2017), run for each key
alone, since linearizability is local (Herlihy and Wing 1990). It leaves to :mod:`raftkv.testing.keymodel` what an
operation means, and knows nothing of Raft. What spans keys, that all revisions come from one counter that follows real
time, is :func:`check_revisions`, which needs no search. Operations on several keys are left out altogether: they are
judged by their place in the log, in :mod:`raftkv.testing.ordering`.

Stale reads are not asked to be linearizable and are left out (:mod:`raftkv.testing.staleness`); what they tell of
revisions counts.

An operation of unknown outcome may take effect at any time after its invocation, or never; one that was certainly not
applied, and a failed get, say nothing and are dropped. If such a write shows up after all, whoever saw it cannot be
placed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from raftkv.testing.history import History, Operation, OperationOutcome
from raftkv.testing.keymodel import EMPTY, KeyState, revision_taken, step

DEFAULT_BUDGET: Final = 300_000  #: configurations that the search for one key may look at

_NEVER: Final = 1 << 62
_FREE: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the check of a history found.

    :ivar linearizable: whether an order was found for every key; never true where the search gave up.
    :ivar gave_up: whether the budget ran out, so that nothing is known; it counts as a failure.
    :ivar key: the key that failed, ``None`` where none did.
    :ivar reason: a sentence, with the operations of that key, empty where all is well.
    :ivar steps: configurations looked at, in all.
    """

    linearizable: bool
    gave_up: bool = False
    key: bytes | None = None
    reason: str = ""
    steps: int = 0


def check_history(history: History, *, budget: int = DEFAULT_BUDGET) -> Verdict:
    """Check every key of a history, then the revisions across keys.

    :param budget: configurations to look at for each key before giving up.
    """
    steps = 0
    for operations in history.by_key().values():
        verdict = check_key(operations, budget=budget)
        steps += verdict.steps
        if not verdict.linearizable:
            return verdict
    problem = check_revisions(history)
    return Verdict(linearizable=not problem, reason=problem, steps=steps)


def check_key(operations: Sequence[Operation], *, budget: int = DEFAULT_BUDGET) -> Verdict:
    """Check the operations of one key, in the order of invocation."""
    kept = [operation for operation in operations if _says_something(operation)]
    search = _Search(kept, budget)
    linearizable = search.run()
    if linearizable:
        return Verdict(linearizable=True, steps=search.steps)
    key = operations[0].key
    found = "the search gave up" if search.gave_up else "no order explains the operations"
    story = "\n".join(f"  {operation}" for operation in kept)
    reason = f"{found} on key {key!r}; stuck before {search.deepest}:\n{story}"
    return Verdict(linearizable=False, gave_up=search.gave_up, key=key, reason=reason, steps=search.steps)


def check_revisions(operations: Iterable[Operation]) -> str:
    """Check what revisions say across keys: one write each, growing in real time.

    :return: a sentence for the first contradiction, empty where there is none.
    """
    answered = [each for each in operations if each.outcome is OperationOutcome.OK and each.is_plain]
    return _one_write_for_each_revision(answered) or _revisions_follow_real_time(answered)


def _one_write_for_each_revision(answered: list[Operation]) -> str:
    """Find a revision that two different writes claim, as their clients or the readers tell it."""
    claims: dict[int, tuple[bytes, bytes | None]] = {}
    writers: dict[int, Operation] = {}
    for operation in answered:
        revision, value = 0, None
        if operation.kind == "get" and operation.record is not None:
            value, _, revision, _, _ = operation.record
        elif operation.kind != "get" and (revision := revision_taken(operation)):
            value = operation.value if operation.kind == "put" else None
            if revision in writers:
                return f"two writes were given revision {revision}: {writers[revision]} and {operation}"
            writers[revision] = operation
        if revision and claims.setdefault(revision, (operation.key, value)) != (operation.key, value):
            return f"revision {revision} is {claims[revision]} elsewhere, but {operation}"
    return ""


def _revisions_follow_real_time(answered: list[Operation]) -> str:
    """Find a write that was given a smaller revision than one that had returned before it was invoked."""
    # Walk events in order, with the largest revision that any client had seen returned so far.
    events: list[tuple[int, bool, Operation]] = []
    for operation in answered:
        if operation.kind != "get" and revision_taken(operation):
            events.append((operation.invoked, False, operation))
        if operation.returned is not None:
            events.append((operation.returned, True, operation))
    events.sort(key=lambda event: event[0])
    newest, seen_by = 0, None
    seen_before: dict[int, tuple[int, Operation | None]] = {}
    for _, is_return, operation in events:
        if not is_return:
            seen_before[operation.number] = (newest, seen_by)
            continue
        if (taken := revision_taken(operation)) and operation.number in seen_before:
            known, witness = seen_before[operation.number]
            if taken <= known:
                return f"revision {taken} was given after revision {known} had been seen: {operation}, then {witness}"
        if (revision := _revision_seen(operation)) > newest:
            newest, seen_by = revision, operation
    return ""


def _revision_seen(operation: Operation) -> int:
    """Return a revision that the store surely had reached when the operation returned."""
    if operation.kind == "get":
        return int(operation.record[2]) if operation.record is not None else 0
    return int(operation.result[1]) if operation.result is not None else 0


def _says_something(operation: Operation) -> bool:
    if operation.consistency == "stale":
        return False  # of the past, if anything
    if operation.outcome is OperationOutcome.OK:
        return True
    return operation.outcome is OperationOutcome.UNKNOWN and operation.kind != "get"


class _Search:
    """One depth-first search for an order of the operations of one key.

    Operations that were answered hang in a doubly linked list of invocations and returns (Lowe's); those of unknown
    outcome stand apart and are tried last, since eager ones would make the search exponential in their number.

    :ivar deepest: the operation that returned without a place in the longest order found, for the report.
    """

    _HEAD: Final = 0

    def __init__(self, operations: Sequence[Operation], budget: int) -> None:
        self._operations = operations
        self._budget = budget
        self._hints = _observed_revisions(operations)
        answered = [number for number, each in enumerate(operations) if each.outcome is OperationOutcome.OK]
        self._required = len(answered)
        self._optional = self._likeliest_first(operations)
        # Writes whose revisions are known can only come in the order of these.
        known = sorted((revision, number) for number in answered if (revision := revision_taken(operations[number])))
        self._rank = {number: rank for rank, (_, number) in enumerate(known)}
        self._ranked_done = 0
        events = [(operations[number].invoked, number, True) for number in answered]
        events += [(_return_position(operations[number]), number, False) for number in answered]
        events.sort()
        # Node 0 is the head; node i is events[i - 1].
        self._events = events
        self._next: list[int] = [*range(1, len(events) + 1), 0]
        self._previous: list[int] = [0, *range(len(events))]
        self._return_of = {number: place for place, (_, number, call) in enumerate(events, start=1) if not call}
        self.steps = 0
        self.gave_up = False
        self.deepest: Operation | None = None

    def run(self) -> bool:
        """Return whether there is an order; sets :attr:`gave_up` where the budget ran out first."""
        state, done, left = EMPTY, 0, self._required
        seen: set[tuple[int, KeyState]] = set()
        # What was chosen so far: state before, set before, the node in the list (0 for an optional one), and how
        # many optional ones had been tried.
        trail: list[tuple[KeyState, int, int, int]] = []
        node, tried = self._next[self._HEAD], 0
        fewest_left = left + 1
        while left:
            choice = self._choose(state, done, node, tried, seen)
            if choice is None:
                if left < fewest_left:
                    fewest_left, self.deepest = left, self._blocking()
                if self.steps > self._budget:
                    self.gave_up = True
                    return False
                tried = _FREE
                while tried == _FREE:  # what was free had no alternative
                    if not trail:
                        return False
                    state, done, chosen, tried = trail.pop()
                    if chosen:
                        self._put_back(chosen)
                        self._ranked_done -= self._events[chosen - 1][1] in self._rank
                        left += 1
                node = self._next[chosen] if chosen else self._first_return()
                continue
            after, bit, chosen, tried_now = choice
            trail.append((state, done, chosen, tried_now))
            state, done = after, done | bit
            if chosen:
                self._take_out(chosen)
                self._ranked_done += self._events[chosen - 1][1] in self._rank
                left -= 1
            node, tried = self._next[self._HEAD], 0
        return True

    def _choose(
        self, state: KeyState, done: int, node: int, tried: int, seen: set[tuple[int, KeyState]]
    ) -> tuple[KeyState, int, int, int] | None:
        """Find the next operation that may come first: from ``node`` on in the list, then among the optional ones."""
        events, operations = self._events, self._operations
        if not tried and node == self._next[self._HEAD] and (free := self._free(state)):
            bit = 1 << events[free - 1][1]
            if self._is_new(done | bit, state, seen):
                return state, bit, free, _FREE
            return None
        while events[node - 1][2]:
            number = events[node - 1][1]
            in_turn = self._rank.get(number, self._ranked_done) == self._ranked_done
            after = step(state, operations[number]) if in_turn else None
            if after is not None and self._is_new(done | 1 << number, after, seen):
                return after, 1 << number, node, 0
            node = self._next[node]
        horizon = events[node - 1][0]
        for position in range(tried, len(self._optional)):
            number = self._optional[position]
            operation = operations[number]
            if done >> number & 1 or operation.invoked > horizon:
                continue
            hint = self._hints.get(operation.value, 0) if operation.kind == "put" else 0
            after = step(state, operation, hint)
            if after is not None and self._is_new(done | 1 << number, after, seen):
                return after, 1 << number, 0, position + 1
        return None

    def _free(self, state: KeyState) -> int:
        """Return the node of an operation that fits here and changes nothing, 0 for none.

        Nothing is lost by placing it at once: in any order that works it could be moved here.
        """
        node = self._next[self._HEAD]
        while self._events[node - 1][2]:
            if step(state, self._operations[self._events[node - 1][1]]) == state:
                return node
            node = self._next[node]
        return 0

    def _is_new(self, done: int, state: KeyState, seen: set[tuple[int, KeyState]]) -> bool:
        self.steps += 1
        configuration = (done, state)
        if configuration in seen:
            return False
        seen.add(configuration)
        return True

    def _first_return(self) -> int:
        node = self._next[self._HEAD]
        while self._events[node - 1][2]:
            node = self._next[node]
        return node

    def _blocking(self) -> Operation:
        return self._operations[self._events[self._first_return() - 1][1]]

    def _take_out(self, node: int) -> None:
        for each in (node, self._return_of[self._events[node - 1][1]]):
            self._next[self._previous[each]] = self._next[each]
            self._previous[self._next[each]] = self._previous[each]

    def _put_back(self, node: int) -> None:
        for each in (self._return_of[self._events[node - 1][1]], node):
            self._next[self._previous[each]] = each
            self._previous[self._next[each]] = each

    def _likeliest_first(self, operations: Sequence[Operation]) -> list[int]:
        """Order the writes of unknown outcome: those whose value somebody read come first."""
        optional = [number for number, each in enumerate(operations) if each.outcome is OperationOutcome.UNKNOWN]
        return sorted(optional, key=lambda number: operations[number].value not in self._hints)


def _return_position(operation: Operation) -> int:
    """Return when an answered operation returned; one whose answer only a witness knows never did."""
    return _NEVER if operation.returned is None else operation.returned


def _observed_revisions(operations: Sequence[Operation]) -> dict[bytes, int]:
    """Return the revision that readers saw with each value that only one put can have written."""
    writers: dict[bytes, int] = {}
    for operation in operations:
        if operation.kind == "put":
            writers[operation.value] = writers.get(operation.value, 0) + 1
    return {
        operation.record[0]: operation.record[2]
        for operation in operations
        if operation.kind == "get" and operation.record is not None and writers.get(operation.record[0]) == 1
    }
