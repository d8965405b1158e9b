"""Exactly-once: repeats, windows, expiry."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import InvariantViolation
from raftkv.kvstore import Store
from raftkv.kvstore.commands import (
    ABSENT,
    OK,
    PRECONDITION_FAILED,
    SEQUENCE_REUSED,
    SEQUENCE_TOO_OLD,
    SESSION_WINDOW,
    Command,
    delete,
    expire_sessions,
    in_session,
    put,
)
from tests.kvstore.helpers import apply, restore, snapshot


class RepeatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store()

    def test_repeat_is_not_applied(self) -> None:
        """B63: a write that is sent again under its number is applied once and gets the first answer."""
        write = in_session(b"c", 7, put(b"a", b"1"))
        first = apply(self.store, write)
        apply(self.store, put(b"a", b"2"))
        self.assertEqual(apply(self.store, write, write), first * 2)
        self.assertEqual(self.store.get(b"a"), (b"2", 1, 2, 2, 0))

    def test_repeat_within_one_entry(self) -> None:
        """B63: two copies of a write in one entry are applied once."""
        write = in_session(b"c", 1, delete(b"a"))
        self.assertEqual(apply(self.store, put(b"a", b"1"), write, write), [(OK, 1), (OK, 2, True), (OK, 2, True)])

    def test_repeat_after_snapshot(self) -> None:
        """B63: a restored node knows the answers that were given before its snapshot."""
        write = in_session(b"c", 1, put(b"a", b"1", ABSENT))
        first = apply(self.store, write)
        self.assertEqual(apply(restore(snapshot(self.store)), write), first)

    def test_failed_condition_is_kept(self) -> None:
        """A failed condition is an answer: its repeat fails the same way, even where it would hold by now."""
        write = in_session(b"c", 1, put(b"a", b"1", ABSENT))
        apply(self.store, put(b"a", b"0"))
        self.assertEqual(apply(self.store, write, delete(b"a"), write)[::2], [(PRECONDITION_FAILED, 1)] * 2)

    def test_another_request(self) -> None:
        """A number that was used for a different request is refused, and nothing is applied."""
        apply(self.store, in_session(b"c", 1, put(b"a", b"1")))
        self.assertEqual(apply(self.store, in_session(b"c", 1, put(b"a", b"2"))), [(SEQUENCE_REUSED,)])
        self.assertEqual(self.store.get(b"a"), (b"1", 1, 1, 1, 0))

    def test_clients_are_apart(self) -> None:
        """Numbers belong to one client."""
        answers = apply(self.store, *(in_session(client, 1, put(b"a", client)) for client in (b"c", b"d")))
        self.assertEqual((answers, self.store.session_count), ([(OK, 1), (OK, 2)], 2))
        self.assertEqual([self.store.has_session(client) for client in (b"c", b"e")], [True, False])


class WindowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store()

    def send(self, sequence: int) -> tuple[object, ...]:
        return apply(self.store, in_session(b"c", sequence, put(b"k%d" % sequence, b"")))[0]

    def test_any_order(self) -> None:
        """Within the window numbers may come in any order, each applied once."""
        order = [5, 1023, 0, 700, 3, 1]
        first = [self.send(sequence) for sequence in order]
        self.assertEqual(first, [(OK, revision) for revision in range(1, 7)])
        self.assertEqual([self.send(sequence) for sequence in order], first)

    def test_edge(self) -> None:
        """The largest number and the 1,023 below it are known; one further down is too old."""
        self.send(0)
        self.send(1)
        self.send(SESSION_WINDOW)
        self.assertEqual(self.send(1), (OK, 2))
        self.assertEqual(self.send(0), (SEQUENCE_TOO_OLD,))
        self.assertEqual(self.send(2), (OK, 4))

    def test_jump(self) -> None:
        """A jump beyond the window forgets all answers before it."""
        self.send(0)
        self.send(10**12)
        self.assertEqual(self.send(0), (SEQUENCE_TOO_OLD,))
        self.assertEqual(self.send(10**12 - SESSION_WINDOW), (SEQUENCE_TOO_OLD,))
        self.assertEqual(self.send(10**12 - SESSION_WINDOW + 1), (OK, 3))
        self.assertEqual(self.store.key_count, 3)

    def test_memory_is_bounded(self) -> None:
        """A session never holds more answers than its window, whatever the steps in which its numbers grow."""
        for step in (1, 3, 500, 2000):
            store = Store()
            apply(store, *(in_session(b"c", n * step, put(b"a", b"")) for n in range(2500)))
            session = store._sessions.touch(b"c", 0)
            self.assertEqual(len(session.answers), -(-SESSION_WINDOW // step))

    def test_digest_of_what_is_kept(self) -> None:
        """The digest knows answers of the window alone: what has left it makes no difference."""
        apply(self.store, *(in_session(b"c", n, put(b"a", b"")) for n in range(3000)))
        self.assertEqual(restore(snapshot(self.store)).digest(), self.store.digest())


class RowTests(SynchronousTestCase):
    """An entry of sessions, whose commands are carried out in a row."""

    def command(self, random: Random, sent: list[Command]) -> Command:
        """Draw one of two clients' commands, nearly all of them puts under the next number."""
        client, numbers = random.choice(((b"c", 0), (b"c", 0), (b"d", 1)))
        key, value = b"k%d" % random.randrange(5), b"%d" % random.randrange(3)
        kind = random.random()
        if sent and kind < 0.1:
            return random.choice(sent)  # a repeat
        if kind < 0.14:
            return random.choice((put(key, value), expire_sessions(random.randrange(3)), delete(key)))
        inner = random.choice((put(key, value, ABSENT), delete(key))) if kind < 0.3 else put(key, value)
        self.numbers[numbers] += random.choice((1, 1, 1, 1, 1, 1, 0, -1, 3, SESSION_WINDOW + 5))
        return in_session(client, max(0, self.numbers[numbers]), inner)

    def test_as_if_each_came_alone(self) -> None:
        """Answers, state and digest do not depend on how the commands are spread over entries."""
        for seed in range(60):
            random = Random(seed)
            self.numbers = [-1, -1]
            together, alone = Store(), Store()
            sent: list[Command] = []
            for at_ms in range(4):
                row = [self.command(random, sent) for _ in range(60)]
                sent += row
                before, view = together.digest(), together.capture()
                # What stands before a command in its entry keeps it out of a row.
                expected = [apply(alone, delete(b"nothing"), command, at_ms=at_ms)[1] for command in row]
                self.assertEqual(apply(together, *row, at_ms=at_ms), expected, seed)
                self.assertEqual(together.digest(), alone.digest(), seed)
                self.assertEqual(restore(view).digest(), before, seed)

    def test_long_row(self) -> None:
        """A row longer than the window leaves what the window holds."""
        apply(self.store, *(in_session(b"c", n, put(b"a", b"")) for n in range(SESSION_WINDOW + 10)))
        self.assertEqual(apply(self.store, in_session(b"c", 9, put(b"a", b""))), [(SEQUENCE_TOO_OLD,)])
        self.assertEqual(apply(self.store, in_session(b"c", 10, put(b"a", b""))), [(OK, 11)])

    def setUp(self) -> None:
        self.store = Store()

    def test_malformed(self) -> None:
        """What cannot be in the log stops the node, in a row, too."""
        good = in_session(b"c", 0, put(b"a", b""))
        for wrong in (
            (*good[:1], 5, *good[2:]),
            (*good[:2], True, *good[3:]),
            (*good[:2], "0", *good[3:]),
            (*good[:3], b"short", good[4]),
            (*good[:4], (*good[4][:3], "text")),
            good[:4],
        ):
            with self.assertRaises(InvariantViolation):
                apply(Store(), wrong, good)


class ExpiryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store()
        for client, at_ms in ((b"c", 1000), (b"d", 2000)):
            apply(self.store, in_session(client, 1, put(client, b"")), at_ms=at_ms)

    def test_older_are_dropped(self) -> None:
        """Sessions whose last write was before the given cluster time are dropped, no others."""
        self.assertEqual(self.store.idle_sessions(2000), 1)
        self.assertEqual(apply(self.store, expire_sessions(2000)), [(OK, 1)])
        self.assertEqual([self.store.has_session(client) for client in (b"c", b"d")], [False, True])
        self.assertEqual(self.store.key_count, 2)

    def test_write_renews(self) -> None:
        """A write renews its session, and so does a repeat: its client is still there."""
        apply(self.store, in_session(b"c", 2, put(b"c", b"")), at_ms=3000)
        apply(self.store, in_session(b"d", 1, put(b"d", b"")), at_ms=3000)
        self.assertEqual(apply(self.store, expire_sessions(3000)), [(OK, 0)])

    def test_time_is_the_clusters(self) -> None:
        """An entry whose leader's clock is behind does not make a session look older than it is."""
        apply(self.store, in_session(b"c", 2, put(b"c", b"")), at_ms=10)
        self.assertEqual(apply(self.store, expire_sessions(2000)), [(OK, 0)])

    def test_dropped_client_starts_anew(self) -> None:
        """A client that comes back after its session was dropped is a new one."""
        apply(self.store, expire_sessions(5000))
        self.assertEqual(apply(self.store, in_session(b"c", 1, put(b"c", b""))), [(OK, 3)])

    def test_dropped_sessions_leave_the_digest(self) -> None:
        """A state that has forgotten its sessions has the digest of one that never had them."""
        plain = Store()
        apply(plain, put(b"c", b""), put(b"d", b""))
        apply(self.store, expire_sessions(5000))
        self.assertEqual(self.store.digest(), plain.digest())

    def test_memory_is_freed_later(self) -> None:
        """Many sessions dropped at once are freed a few with each entry."""
        apply(self.store, *(in_session(b"%d" % n, 1, put(b"a", b"")) for n in range(40)))
        apply(self.store, expire_sessions(5000))
        for _ in range(10):
            apply(self.store)
        self.assertEqual(self.store._sessions._dropped, [])
