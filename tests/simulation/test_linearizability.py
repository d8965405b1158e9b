"""Histories that a linearizable store could have made, and histories that it could not."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from raftkv.interfaces import Record
from raftkv.kvstore.commands import ABSENT, ANY, EXISTS, OK, PRECONDITION_FAILED
from raftkv.testing.history import History, Operation, OperationKind, OperationOutcome
from raftkv.testing.linearizability import check_history, check_key, check_revisions


class Story:
    """Writes a history as a sequence of invocations and returns; time is the number of events."""

    def __init__(self) -> None:
        self.history = History()
        self._now = 0.0

    def begin(
        self, kind: OperationKind, *, key: bytes = b"k", value: bytes = b"", expect: int = ANY, client: str = "c"
    ) -> Operation:
        self._now += 1
        return self.history.invoke(client=client, kind=kind, key=key, value=value, expect=expect, now=self._now)

    def answer(self, operation: Operation, *result: object) -> None:
        self._now += 1
        self.history.answered(operation, result, now=self._now)

    def saw(self, operation: Operation, record: Record | None) -> None:
        self._now += 1
        self.history.read(operation, record, now=self._now)

    def lose(self, operation: Operation) -> None:
        self._now += 1
        self.history.failed(operation, "unknown", now=self._now)

    def refuse(self, operation: Operation) -> None:
        self._now += 1
        self.history.failed(operation, "not_applied", now=self._now)

    def put(self, value: bytes, revision: int, *, expect: int = ANY, key: bytes = b"k") -> None:
        self.answer(self.begin("put", value=value, expect=expect, key=key), OK, revision)

    def delete(self, revision: int, deleted: bool, *, expect: int = ANY) -> None:
        self.answer(self.begin("delete", expect=expect), OK, revision, deleted)

    def get(self, value: bytes, *, created: int, revision: int, version: int, key: bytes = b"k") -> None:
        self.saw(self.begin("get", key=key), (value, created, revision, version, 0))

    def get_nothing(self) -> None:
        self.saw(self.begin("get"), None)


class LinearizableHistoryTests(SynchronousTestCase):
    """Good histories."""

    def assert_good(self, story: Story) -> None:
        """Demand that the history has an order."""
        verdict = check_history(story.history)
        self.assertTrue(verdict.linearizable, verdict.reason)

    def test_empty(self) -> None:
        """A history without operations is linearizable."""
        self.assert_good(Story())

    def test_sequential(self) -> None:
        """One client that writes, reads, deletes and writes again sees revisions and versions as the store counts."""
        story = Story()
        story.get_nothing()
        story.put(b"a", 1)
        story.get(b"a", created=1, revision=1, version=1)
        story.put(b"b", 2)
        story.get(b"b", created=1, revision=2, version=2)
        story.delete(3, True)
        story.delete(3, False)
        story.get_nothing()
        story.put(b"c", 4)
        story.get(b"c", created=4, revision=4, version=1)
        self.assert_good(story)

    def test_concurrent_writes_in_either_order(self) -> None:
        """Of two concurrent writes the one that was invoked later may come first."""
        story = Story()
        first, second = story.begin("put", value=b"a"), story.begin("put", value=b"b")
        story.answer(first, OK, 2)
        story.answer(second, OK, 1)
        story.get(b"a", created=1, revision=2, version=2)
        self.assert_good(story)

    def test_concurrent_read_sees_either(self) -> None:
        """Reads during a write may see the state before it, and then the state after it."""
        story = Story()
        story.put(b"a", 1)
        write = story.begin("put", value=b"b")
        story.get(b"a", created=1, revision=1, version=1)
        story.get(b"b", created=1, revision=2, version=2)
        story.answer(write, OK, 2)
        self.assert_good(story)

    def test_unknown_write_took_effect(self) -> None:
        """A write of unknown outcome may show up long after its client gave up."""
        story = Story()
        story.put(b"a", 1)
        story.lose(story.begin("put", value=b"b"))
        story.get(b"a", created=1, revision=1, version=1)
        story.get(b"b", created=1, revision=5, version=2)
        self.assert_good(story)

    def test_unknown_write_never_took_effect(self) -> None:
        """A write of unknown outcome may be lost for ever."""
        story = Story()
        story.put(b"a", 1)
        story.lose(story.begin("put", value=b"b"))
        story.get(b"a", created=1, revision=1, version=1)
        self.assert_good(story)

    def test_unknown_write_seen_only_by_its_consequences(self) -> None:
        """A write of unknown outcome may be known only by the version that the next write makes."""
        story = Story()
        story.lose(story.begin("put", value=b"a"))
        story.put(b"b", 2)
        story.get(b"b", created=1, revision=2, version=2)
        self.assert_good(story)

    def test_unknown_delete(self) -> None:
        """A delete of unknown outcome explains a key that is gone."""
        story = Story()
        story.put(b"a", 1)
        story.lose(story.begin("delete"))
        story.get_nothing()
        story.put(b"b", 3)
        story.get(b"b", created=3, revision=3, version=1)
        self.assert_good(story)

    def test_write_still_under_way(self) -> None:
        """An operation that never returned counts as unknown."""
        story = Story()
        story.begin("put", value=b"a")
        story.get(b"a", created=1, revision=1, version=1)
        self.assert_good(story)

    def test_conditions(self) -> None:
        """Conditional writes succeed and fail as the state demands, and a failure tells the revision."""
        story = Story()
        story.put(b"a", 1, expect=ABSENT)
        story.answer(story.begin("put", value=b"x", expect=ABSENT), PRECONDITION_FAILED, 1)
        story.put(b"b", 2, expect=1)
        story.answer(story.begin("put", value=b"y", expect=1), PRECONDITION_FAILED, 2)
        story.put(b"c", 3, expect=EXISTS)
        story.answer(story.begin("delete", expect=2), PRECONDITION_FAILED, 3)
        story.delete(4, True, expect=3)
        story.answer(story.begin("put", value=b"z", expect=EXISTS), PRECONDITION_FAILED, 0)
        story.answer(story.begin("delete", expect=3), PRECONDITION_FAILED, 0)
        self.assert_good(story)

    def test_one_of_two_conditional_writes_wins(self) -> None:
        """Two concurrent writes on the same revision: one succeeds, the other learns of it."""
        story = Story()
        story.put(b"a", 1)
        first, second = (story.begin("put", value=value, expect=1) for value in (b"b", b"c"))
        story.answer(first, PRECONDITION_FAILED, 2)
        story.answer(second, OK, 2)
        self.assert_good(story)

    def test_condition_tells_the_revision_of_an_unknown_write(self) -> None:
        """A conditional write on a revision that only a write of unknown outcome can have made is in order."""
        story = Story()
        story.lose(story.begin("put", value=b"a"))
        story.answer(story.begin("put", value=b"b", expect=1), PRECONDITION_FAILED, 7)
        story.put(b"c", 9, expect=7)
        self.assert_good(story)

    def test_failed_operations_say_nothing(self) -> None:
        """Failed reads, and writes that were certainly not applied, are dropped."""
        story = Story()
        story.put(b"a", 1)
        story.refuse(story.begin("put", value=b"b"))
        story.refuse(story.begin("get"))
        story.lose(story.begin("get"))
        story.get(b"a", created=1, revision=1, version=1)
        self.assert_good(story)

    def test_keys_are_apart(self) -> None:
        """Each key has its own order; revisions are shared."""
        story = Story()
        story.put(b"a", 1, key=b"x")
        story.put(b"a", 2, key=b"y")
        story.get(b"a", created=1, revision=1, version=1, key=b"x")
        story.get(b"a", created=2, revision=2, version=1, key=b"y")
        self.assert_good(story)

    def test_answers_known_from_a_witness(self) -> None:
        """Answers that never reached their clients are placed where they fit, without a long search."""
        story = Story()
        under_way = []
        for number in range(1, 21):
            under_way.append((story.begin("put", value=b"late %d" % number), (OK, 2 * number)))
            under_way.append((story.begin("put", value=b"x", expect=ABSENT), (PRECONDITION_FAILED, 2 * number - 1)))
        for number in range(1, 21):
            story.put(b"early %d" % number, 2 * number - 1)
        for operation, result in under_way:
            operation.outcome, operation.result = OperationOutcome.OK, result
        # Each late write but the last lies between two that were answered.
        story.get(b"late 20", created=1, revision=40, version=40)
        self.assert_good(story)
        self.assertLess(check_history(story.history).steps, 1000)

    def test_generated_histories(self) -> None:
        """Histories made by a real one-at-a-time store with random overlap are all found linearizable, and cheaply."""
        for seed in range(20):
            history = generate(random.Random(seed), operations=300, clients=6, keys=7, lost=0.1)
            verdict = check_history(history)
            self.assertTrue(verdict.linearizable, f"seed {seed}: {verdict.reason}")
            self.assertLess(verdict.steps, 5_000)


class NotLinearizableHistoryTests(SynchronousTestCase):
    """Bad histories."""

    def assert_bad(self, story: Story) -> None:
        """Demand that the history has no order, and that this was certain."""
        verdict = check_history(story.history)
        self.assertFalse(verdict.linearizable)
        self.assertFalse(verdict.gave_up)
        self.assertNotEqual("", verdict.reason)

    def test_stale_read(self) -> None:
        """A read that begins after a write has returned may not see the state before it (B28)."""
        story = Story()
        story.put(b"a", 1)
        story.put(b"b", 2)
        story.get(b"a", created=1, revision=1, version=1)
        self.assert_bad(story)

    def test_stale_absence(self) -> None:
        """A read that begins after the first write of a key has returned must find the key."""
        story = Story()
        story.put(b"a", 1)
        story.get_nothing()
        self.assert_bad(story)

    def test_lost_update(self) -> None:
        """An acknowledged write that a later version count does not include was lost."""
        story = Story()
        story.put(b"a", 1)
        first, second = story.begin("put", value=b"b"), story.begin("put", value=b"c")
        story.answer(first, OK, 2)
        story.answer(second, OK, 3)
        story.get(b"c", created=1, revision=3, version=2)
        self.assert_bad(story)

    def test_dirty_read(self) -> None:
        """A write whose client was told that it had no effect must never be seen."""
        story = Story()
        story.put(b"a", 1)
        story.refuse(story.begin("put", value=b"b"))
        story.get(b"b", created=1, revision=2, version=2)
        self.assert_bad(story)

    def test_value_from_nowhere(self) -> None:
        """A value that nobody wrote cannot be read."""
        story = Story()
        story.get(b"a", created=1, revision=1, version=1)
        self.assert_bad(story)

    def test_read_before_write(self) -> None:
        """A read that returned before a write was invoked cannot have seen it."""
        story = Story()
        story.get(b"a", created=1, revision=1, version=1)
        story.put(b"a", 1)
        self.assert_bad(story)

    def test_reads_go_back(self) -> None:
        """Once a read has seen a concurrent write, no later read may miss it."""
        story = Story()
        story.put(b"a", 1)
        write = story.begin("put", value=b"b")
        story.get(b"b", created=1, revision=2, version=2)
        story.get(b"a", created=1, revision=1, version=1)
        story.answer(write, OK, 2)
        self.assert_bad(story)

    def test_split_condition(self) -> None:
        """Two conditional writes on the same revision cannot both succeed."""
        story = Story()
        story.put(b"a", 1)
        first, second = (story.begin("put", value=value, expect=1) for value in (b"b", b"c"))
        story.answer(first, OK, 2)
        story.answer(second, OK, 3)
        self.assert_bad(story)

    def test_split_creation(self) -> None:
        """Two writes that both demand that there be no key cannot both succeed."""
        story = Story()
        first, second = (story.begin("put", value=value, expect=ABSENT) for value in (b"a", b"b"))
        story.answer(first, OK, 1)
        story.answer(second, OK, 2)
        self.assert_bad(story)

    def test_condition_failed_without_cause(self) -> None:
        """A condition that held cannot have failed."""
        story = Story()
        story.put(b"a", 1)
        story.answer(story.begin("put", value=b"b", expect=1), PRECONDITION_FAILED, 1)
        self.assert_bad(story)

    def test_write_applied_twice(self) -> None:
        """A retried write that was applied twice shows a second revision of the same value (B63)."""
        story = Story()
        story.put(b"a", 1)
        story.get(b"a", created=1, revision=2, version=2)
        self.assert_bad(story)

    def test_deleted_twice(self) -> None:
        """Two deletes of one life of a key cannot both have found it."""
        story = Story()
        story.put(b"a", 1)
        first, second = story.begin("delete"), story.begin("delete")
        story.answer(first, OK, 2, True)
        story.answer(second, OK, 3, True)
        self.assert_bad(story)

    def test_resurrection(self) -> None:
        """A deleted key does not come back by itself."""
        story = Story()
        story.put(b"a", 1)
        story.delete(2, True)
        story.get(b"a", created=1, revision=1, version=1)
        self.assert_bad(story)

    def test_unknown_write_seen_then_gone(self) -> None:
        """A write of unknown outcome that was seen once has happened, and stays."""
        story = Story()
        story.put(b"a", 1)
        story.lose(story.begin("put", value=b"b"))
        story.get(b"b", created=1, revision=2, version=2)
        story.get(b"a", created=1, revision=1, version=1)
        self.assert_bad(story)

    def test_unknown_write_twice(self) -> None:
        """A write of unknown outcome takes effect once at most."""
        story = Story()
        story.lose(story.begin("put", value=b"a"))
        story.get(b"a", created=1, revision=1, version=1)
        story.delete(2, True)
        story.get(b"a", created=3, revision=3, version=1)
        self.assert_bad(story)

    def test_revisions_of_a_key_go_back(self) -> None:
        """A later write of a key cannot have a smaller revision."""
        story = Story()
        story.put(b"a", 2)
        story.put(b"b", 1)
        self.assert_bad(story)

    def test_one_revision_for_two_keys(self) -> None:
        """Two writes never share a revision, whatever their keys."""
        story = Story()
        story.put(b"a", 1, key=b"x")
        story.put(b"b", 1, key=b"y")
        self.assert_bad(story)

    def test_one_revision_read_under_two_keys(self) -> None:
        """Readers of two keys never see one revision in both."""
        story = Story()
        first, second = (story.begin("put", key=key, value=b"v") for key in (b"x", b"y"))
        story.lose(first)
        story.lose(second)
        story.get(b"v", created=1, revision=1, version=1, key=b"x")
        story.get(b"v", created=1, revision=1, version=1, key=b"y")
        self.assertNotEqual("", check_revisions(story.history))
        self.assert_bad(story)

    def test_revisions_against_real_time(self) -> None:
        """A write that was invoked after another had returned has the larger revision, also on another key (B54)."""
        story = Story()
        story.put(b"a", 2, key=b"x")
        story.put(b"b", 1, key=b"y")
        self.assert_bad(story)

    def test_spoilt_histories(self) -> None:
        """A good history in which one read is made stale is found out, however it overlaps."""
        spoilt = 0
        for seed in range(40):
            chance = random.Random(seed)
            history = generate(chance, operations=120, clients=4, keys=2, lost=0.05)
            if spoil(history, chance):
                spoilt += 1
                self.assertFalse(check_history(history).linearizable, f"seed {seed}")
        self.assertGreater(spoilt, 20)


class BudgetTests(SynchronousTestCase):
    """The search stops."""

    def test_gives_up(self) -> None:
        """A search that exceeds its budget says so, and does not call the history good."""
        story = Story()
        for number in range(24):
            story.lose(story.begin("put", value=b"%d" % number))
        story.get(b"nobody wrote this", created=1, revision=30, version=24)
        verdict = check_key(list(story.history), budget=2_000)
        self.assertFalse(verdict.linearizable)
        self.assertTrue(verdict.gave_up)
        self.assertIn("gave up", verdict.reason)


class HistoryTests(SynchronousTestCase):
    """The record itself."""

    def test_returns_once(self) -> None:
        """An operation cannot return twice: the harness would be wrong."""
        story = Story()
        operation = story.begin("get")
        story.saw(operation, None)
        self.assertRaises(ValueError, story.lose, operation)

    def test_describes_itself(self) -> None:
        """An operation prints what was asked, what was answered and when."""
        story = Story()
        story.put(b"a", 1, expect=ABSENT)
        (operation,) = story.history
        self.assertEqual("#0 c put k=a if 0 -> (0, 1) [1.0000, 2.0000]", str(operation))
        self.assertEqual(1, story.history.count(OperationOutcome.OK))


def generate(chance: random.Random, *, operations: int, clients: int, keys: int, lost: float) -> History:
    """Make a history with a store that does one operation at a time, at a random moment within each.

    :param lost: the share of writes whose client is not told the outcome; half of them take effect.
    """
    history = History()
    store: dict[bytes, Record] = {}
    revision = 0
    # For each client: the operation under way, its answer once it took effect, and whether that happened.
    under_way: dict[str, tuple[Operation, tuple[object, ...] | None]] = {}
    made = 0
    while made < operations or under_way:
        client = f"c{chance.randrange(clients)}"
        now = float(made)
        if client not in under_way:
            if made == operations:
                continue
            made += 1
            kind: OperationKind = chance.choice(("get", "get", "put", "put", "delete"))
            key = b"k%d" % chance.randrange(keys)
            present = store.get(key)
            expect = ANY
            if kind != "get" and chance.random() < 0.4:
                expect = chance.choice((ABSENT, EXISTS, present[2] if present else 1))
            value = b"v%d" % made if kind == "put" else b""
            operation = history.invoke(client=client, kind=kind, key=key, now=now, value=value, expect=expect)
            under_way[client] = (operation, None)
            continue
        operation, answer = under_way[client]
        if answer is None and operation.kind != "get" and chance.random() < lost / 2:
            history.failed(operation, "unknown", now=now)
            del under_way[client]
        elif answer is None:
            answer, revision = take_effect(store, operation, revision)
            under_way[client] = (operation, answer)
        else:
            del under_way[client]
            if operation.kind == "get":
                history.read(operation, answer[0], now=now)  # type: ignore[arg-type]  # one place for both answers
            elif chance.random() < lost / 2:
                history.failed(operation, "unknown", now=now)
            else:
                history.answered(operation, answer, now=now)
    return history


def take_effect(store: dict[bytes, Record], operation: Operation, revision: int) -> tuple[tuple[object, ...], int]:
    """Carry out one operation as the store would.

    :return: the answer (of a get: the record alone), and the store's new revision.
    """
    record = store.get(operation.key)
    if operation.kind == "get":
        return (record,), revision
    present = record[2] if record else 0
    wanted = operation.expect
    if wanted != ANY and not (present if wanted == EXISTS else present == wanted):
        return (PRECONDITION_FAILED, present), revision
    if operation.kind == "delete":
        if record is None:
            return (OK, revision, False), revision
        del store[operation.key]
        return (OK, revision + 1, True), revision + 1
    revision += 1
    created, version = (record[1], record[3] + 1) if record else (revision, 1)
    store[operation.key] = (operation.value, created, revision, version, 0)
    return (OK, revision), revision


def spoil(history: History, chance: random.Random) -> bool:
    """Give some read what an earlier read of its key saw, if a newer state had surely been seen in between."""
    for operations in history.by_key().values():
        reads = [each for each in operations if each.kind == "get" and each.record and each.returned is not None]
        chance.shuffle(reads)
        for late in reads:
            for early in reads:
                for between in reads:
                    revisions = [each.record[2] for each in (early, between) if each.record]
                    if (
                        revisions[0] < revisions[1]
                        and (between.returned or 0) < late.invoked
                        and early.returned != late.returned
                    ):
                        late.record = early.record
                        return True
    return False
