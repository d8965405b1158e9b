"""What the log says of clients' operations, and what happens when it contradicts what they were told."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.kvstore.commands import ANY, OK, PRECONDITION_FAILED, delete, in_session, pack_batch, put
from raftkv.raft.messages import Entry, EntryKind
from raftkv.testing.checkers import Violation
from raftkv.testing.history import History, Operation, OperationKind, OperationOutcome
from raftkv.testing.witness import AppliedWrites


class WitnessTests(SynchronousTestCase):
    """A log of one command in each entry."""

    def setUp(self) -> None:
        self.writes = AppliedWrites()
        self.history = History()
        self.index = 0

    def applied(self, command: Any, *result: Any) -> None:
        """Let a state machine apply a command."""
        self.index += 1
        entry = Entry(index=self.index, term=1, kind=EntryKind.COMMANDS, payload=pack_batch(0, 0, [command]))
        self.writes.note(entry, [result])
        self.writes.note(entry, [result])  # another node applies it too

    def asked(self, kind: OperationKind = "put", value: bytes = b"", sequence: int | None = None) -> Operation:
        """Let a client ask."""
        return self.history.invoke(client="c", kind=kind, key=b"k", value=value, expect=ANY, sequence=sequence, now=0.0)

    def told(self, operation: Operation, *result: Any) -> None:
        self.history.answered(operation, result, now=1.0)

    def assert_contradicted(self, rule: str) -> None:
        """Demand that log and history do not agree."""
        self.assertEqual(rule, self.assertRaises(Violation, self.writes.testify, self.history).rule)

    def test_unknown_settled(self) -> None:
        """A write of unknown outcome took effect if the log has it, and is dropped if not."""
        there, gone = self.asked(value=b"a"), self.asked(value=b"b")
        for operation in (there, gone):
            self.history.failed(operation, "unknown", now=1.0)
        self.applied(put(b"k", b"a"), OK, 1)
        (settled,) = self.writes.testify(self.history)
        self.assertEqual((OperationOutcome.OK, (OK, 1), None), (settled.outcome, settled.result, settled.returned))

    def test_unknown_in_a_session(self) -> None:
        """A write of a session is known by its number; its repeats do not count."""
        operation = self.asked("delete", sequence=7)
        for _ in range(2):
            self.applied(in_session(b"c", 7, delete(b"k")), OK, 3, True)
        (settled,) = self.writes.testify(self.history)
        self.assertEqual((operation.number, (OK, 3, True)), (settled.number, settled.result))

    def test_nameless_deletes(self) -> None:
        """Deletes outside of sessions go to who was told of them, then to who asked first."""
        first, second, third = (self.asked("delete") for _ in range(3))
        self.told(second, OK, 5, True)
        for revision in (5, 2):
            self.applied(delete(b"k"), OK, revision, True)
        settled = {each.number: each.result for each in self.writes.testify(self.history)}
        self.assertEqual({second.number: (OK, 5, True), first.number: (OK, 2, True)}, settled)
        self.assertNotIn(third.number, settled)

    def test_acknowledged_write_lost(self) -> None:
        """An acknowledged write that the log does not have is a wrong answer."""
        self.told(self.asked(value=b"a"), OK, 1)
        self.assert_contradicted("wrong answer")

    def test_answer_of_another(self) -> None:
        """An answer that differs from what the state machine said is wrong (B65)."""
        self.told(self.asked(value=b"a"), OK, 1)
        self.applied(put(b"k", b"a"), PRECONDITION_FAILED, 4)
        self.assert_contradicted("wrong answer")

    def test_delete_that_never_was(self) -> None:
        """A client that was told of a delete which the log does not have was lied to."""
        self.told(self.asked("delete"), OK, 1, True)
        self.assert_contradicted("wrong answer")

    def test_applied_after_all(self) -> None:
        """A write whose client was told that it had no effect must not be in the log."""
        self.history.failed(self.asked(value=b"a"), "not_applied", now=1.0)
        self.applied(put(b"k", b"a"), OK, 1)
        self.assert_contradicted("applied after all")

    def test_delete_applied_after_all(self) -> None:
        """Nor may a delete be that everybody who asked for one was told had no effect."""
        self.history.failed(self.asked("delete"), "not_applied", now=1.0)
        self.applied(delete(b"k"), OK, 1, True)
        self.assert_contradicted("applied after all")

    def test_applied_twice(self) -> None:
        """A write without a session that the log holds twice was sent twice by somebody (B63, B64)."""
        self.applied(put(b"k", b"a"), OK, 1)
        self.assertRaises(Violation, self.applied, put(b"k", b"a"), OK, 2)
