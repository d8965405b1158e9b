"""What a CALL reads of the store, and how little of it is made at once."""

from __future__ import annotations

from typing import Any

from raftkv import errors
from raftkv.kvstore import Store
from raftkv.kvstore.commands import get, grant, in_session, pack_batch, put, transaction
from raftkv.protocols.framing import MIB, FrameLimits
from raftkv.protocols.rpc import RpcSettings
from raftkv.protocols.rpc_calls import MAX_RANGE_ANSWER_BYTES
from raftkv.protocols.rpc_errors import Unreachable
from raftkv.protocols.rpc_frames import CALL, MAX_STALE_MS
from raftkv.reading.ranges import STEP_RECORDS

from .test_rpc import FakeKeyValue, RpcTestCase


class StoreKeyValue(FakeKeyValue):
    """A store to read; writes wait for the test as ever.

    :ivar holds: whether barriers wait for :meth:`confirm`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.holds = False

    def apply(self, *commands: Any) -> None:
        """Carry out commands."""
        self.store.apply(self.store.applied_index + 1, pack_batch(0, 0, commands))

    def state(self) -> Store:
        return self.store

    def revision(self) -> int:
        return self.store.revision

    def barrier(self, consistency: str, done: Any, *, max_stale_seconds: float | None = None) -> None:
        super().barrier(consistency, done, max_stale_seconds=max_stale_seconds)
        if not self.holds:
            self.confirm()


class CallTestCase(RpcTestCase):
    """A server before a real store, and who asks it."""

    settings = RpcSettings(max_group_bytes=10_000, max_reads=2)

    def make_key_value(self) -> StoreKeyValue:
        self.store_behind = StoreKeyValue()
        return self.store_behind

    def setUp(self) -> None:
        super().setUp()
        self.asker = self.client()
        self.done: list[Any] = []

    def begin(self, name: str, **arguments: Any) -> None:
        """Ask; what is answered comes into ``done``, in the order in which it comes."""
        self.asker.call(name, arguments, self.done.append, changes=False)
        self.network.flush()

    def ask(self, name: str, **arguments: Any) -> Any:
        """Return the answer to a call."""
        self.done.clear()
        self.begin(name, **arguments)
        (answer,) = self.done
        return answer

    def fill(self, count: int, value: bytes = b"v") -> None:
        """Set so many keys."""
        self.store_behind.apply(*[put(b"k%05d" % number, value) for number in range(count)])


class ReadTests(CallTestCase):
    """What is answered."""

    def test_range(self) -> None:
        """A range comes with its records, their number, its revision, and where it goes on."""
        self.fill(3)
        answer = self.ask("range", prefix=b"k", limit=2)
        token = answer.pop("continue")
        records = tuple((b"k%05d" % number, (b"v", number + 1, number + 1, 1, 0)) for number in range(3))
        self.assertEqual(answer, {"items": records[:2], "folders": (), "count": 3, "revision": 3})
        self.fill(4, b"w")
        rest = self.ask("range", prefix=b"k", **{"continue": token})
        self.assertEqual((rest["items"], rest["count"], rest["continue"]), (records[2:], 3, None))
        self.assertEqual(self.ask("range", start=b"k00001", count_only=True), {"count": 3, "revision": 7})

    def test_end_of_an_answer(self) -> None:
        """An answer ends after a thousand records, and once it has its bytes, whatever was asked for."""
        self.fill(1200)
        for limit in (None, 1100, 2**62):
            answer = self.ask("range", limit=limit)
            self.assertEqual((len(answer["items"]), answer["continue"] is None), (1000, False))
        self.fill(20, b"v" * (MAX_RANGE_ANSWER_BYTES // 4))
        self.assertEqual(len(self.ask("range")["items"]), 4)
        self.assertEqual(len(self.ask("range", keys_only=True)["items"]), 1000)

    def test_consistency(self) -> None:
        """Every read waits for the barrier of the consistency that it asks for, and fails with it."""
        self.fill(1)
        self.store_behind.apply(grant(9000))
        self.store_behind.holds = True
        calls: dict[str, dict[str, Any]] = {
            "record": {"key": b"k00000", "revision": 1},
            "range": {},
            "lease": {"lease": self.store_behind.store.last_number},
            "leases": {},
        }
        for name, arguments in calls.items():
            for number, consistency in enumerate(("linearizable", "lease", "stale")):
                bound = {"max_stale_ms": 1500} if consistency == "stale" else {}
                self.done.clear()
                for error in (None, errors.NoLeader()):
                    self.begin(name, **arguments, consistency=number, **bound)
                    ((asked, _),) = self.store_behind.barriers
                    self.assertEqual((asked, self.store_behind.bounds[-1]), (consistency, 1.5 if bound else None))
                    self.store_behind.confirm(error)
                    self.network.flush()
                good, bad = self.done
                self.assertIsInstance(good, dict)
                self.assertIsInstance(bad, errors.NoLeader)

    def test_bad_arguments(self) -> None:
        """Arguments that make no sense are refused before anything is waited for."""
        wrong: list[tuple[str, dict[str, Any]]] = [
            ("record", {}),
            ("record", {"key": ""}),
            ("record", {"key": b""}),
            ("record", {"key": b"\xff"}),
            ("record", {"key": b"k" * 4097}),
            ("record", {"key": b"k", "revision": 0}),
            ("record", {"key": b"k", "revision": True}),
            ("record", {"key": b"k", "revison": 1}),
            ("record", {"key": b"k", "consistency": 3}),
            ("record", {"key": b"k", "max_stale_ms": 1}),
            ("record", {"key": b"k", "consistency": 2, "max_stale_ms": MAX_STALE_MS + 1}),
            ("range", {"prefix": b"a", "end": b"b"}),
            ("range", {"end": b""}),
            ("range", {"delimiter": b""}),
            ("range", {"start": "a"}),
            ("range", {"limit": 0}),
            ("range", {"limit": -1}),
            ("range", {"limit": 1.0}),
            ("range", {"reverse": 1}),
            ("range", {"continue": b"t"}),
            ("range", {"continue": "t" * 20_000}),
            ("lease", {}),
            ("lease", {"lease": 0}),
            ("lease", {"lease": 1, "limit": 2501}),
            ("leases", {"limit": 0}),
            ("leases", {"continue": "t"}),
        ]
        for name, arguments in wrong:
            with self.subTest(f"{name} {str(arguments)[:40]}"):
                self.assertIsInstance(self.ask(name, **arguments), errors.BadRequest | errors.TooLarge)
        self.assertEqual(self.store_behind.bounds, [])
        self.fill(2)
        token = self.ask("range", limit=1)["continue"]
        for other in ({"prefix": b"k"}, {"reverse": True}, {"revision": 1}, {"count_only": True}):
            self.assertIsInstance(self.ask("range", **{"continue": token, **other}), errors.BadRequest)

    def test_node_behind(self) -> None:
        """A node that has not come as far as a page asks the leader; one that has no such revision says so."""
        self.fill(3)
        token = self.ask("range", limit=1)["continue"]
        self.store_behind.store = Store()
        self.store_behind.barriers.clear()
        self.store_behind.holds = True
        self.begin("range", **{"continue": token, "consistency": 2})
        self.store_behind.confirm()
        ((consistency, _),) = self.store_behind.barriers
        self.assertEqual(consistency, "lease")
        self.store_behind.confirm()
        self.network.flush()
        self.assertIsInstance(self.done[-1], errors.FutureRevision)

    def test_removed_meanwhile(self) -> None:
        """A range ends with an error where its node may not be read any more between two steps."""
        self.fill(STEP_RECORDS + 1)
        self.store_behind.holds = True
        self.begin("range")
        self.store_behind.confirm()
        self.network.flush()
        self.store_behind.confirm(errors.Removed())
        self.network.flush()
        (error,) = self.done
        self.assertIsInstance(error, errors.Removed)

    def test_bug(self) -> None:
        """A bug in a read is logged and told without detail, as something that has changed nothing."""
        self.patch(self.store_behind, "state", lambda: 1 // 0)
        error = self.ask("leases")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((error.remote_code, error.outcome), ("internal", "not_applied"))


class RoomTests(CallTestCase):
    """How much of it there is at once."""

    def test_under_way(self) -> None:
        """Of one connection so many reads are under way, and the next begins when one has ended."""
        self.store_behind.holds = True
        for _ in range(5):
            self.begin("leases")
        for left in (5, 3, 1):
            self.assertEqual(len(self.store_behind.barriers), min(left, 2))
            self.store_behind.confirm()
            self.network.flush()
        self.assertEqual(len(self.done), 5)

    def test_client_that_does_not_read(self) -> None:
        """B70: nothing is read for who does not take what it has asked for already."""
        self.fill(1)
        server = self.server_connection()
        server.pauseProducing()  # as a full transport does
        for _ in range(3):
            self.asker.call("range", {}, self.done.append)
        server.request_received((CALL, 100, "range", {}))
        self.assertEqual((self.store_behind.bounds, self.done), ([], []))
        server.resumeProducing()
        self.network.flush()
        self.assertEqual(len(self.store_behind.bounds), 4)
        self.assertEqual(len(self.done), 3)

    def test_many_that_wait(self) -> None:
        """Once so many reads wait nothing more is read from the connection, until half of them have begun."""
        server = self.server_connection()
        self.store_behind.holds = True
        for _ in range(self.settings.max_reads + self.settings.max_waiting_reads):
            self.asker.call("leases", {}, self.done.append)
        self.network.flush()
        self.assertTrue(server.reading_paused)
        for _ in range(self.settings.max_waiting_reads // self.settings.max_reads // 2 + 1):
            self.store_behind.confirm()
        self.assertFalse(server.reading_paused)
        while self.store_behind.barriers:
            self.store_behind.confirm()
        self.network.flush()
        self.assertEqual(len(self.done), self.settings.max_reads + self.settings.max_waiting_reads)

    def test_heavy_arguments(self) -> None:
        """Arguments that would cost much to keep are refused before anything waits with them."""
        self.store_behind.holds = True
        for _ in range(5):
            self.begin("leases")
        for arguments, kind in (
            ({"junk": bytes(MIB)}, errors.TooLarge),
            ({"prefix": "k" * MIB}, errors.TooLarge),
            ({"prefix": (1, 2)}, errors.BadRequest),
            ({"prefix": {"a": 1}}, errors.BadRequest),
        ):
            self.assertIsInstance(self.ask("range", **arguments), kind)
        while self.store_behind.barriers:
            self.store_behind.confirm()

    def test_thousands_at_once(self) -> None:
        """However many reads wait, they are begun one after the other, not inside each other."""
        server = self.server_connection()
        server.pauseProducing()
        for number in range(3000):
            server.request_received((CALL, number, "leases", {}))
        self.assertEqual((server._outstanding, self.store_behind.bounds), (3000, []))
        server.resumeProducing()
        self.assertEqual((server._outstanding, len(self.store_behind.bounds)), (0, 3000))
        server.abort()

    def test_client_gone(self) -> None:
        """B65: who has gone is not read for: neither what was under way nor what waited goes on."""
        self.fill(STEP_RECORDS + 1)
        self.store_behind.holds = True
        for _ in range(4):
            self.begin("range")
        self.assertEqual(len(self.store_behind.barriers), 2)
        self.network.cut("a:rpc")
        self.store_behind.confirm()
        self.network.flush()
        self.assertEqual(self.store_behind.barriers, [])
        self.assertEqual([type(answer) for answer in self.done], [Unreachable] * 4)

    def test_results_wait(self) -> None:
        """B70: what transactions have read is packed as the other side takes it."""
        reading = transaction([], [get(b"k")])
        for number in range(6):
            self.asker.write([in_session(b"c", number, reading)], self.done.append)
        self.network.flush()
        server = self.server_connection()
        server.pauseProducing()
        ((commands, answer, _),) = self.store_behind.writes
        result = (0, 1, True, ((5, (b"v" * 5000, 1, 1, 1, 0)),))
        answer([result] * len(commands))
        self.network.flush()
        self.assertEqual((self.done, server._outstanding), ([], 6))
        server.resumeProducing()
        self.network.flush()
        self.assertEqual((self.done, server._outstanding), ([(result,)] * 6, 0))

    def test_result_that_no_message_holds(self) -> None:
        """The answer to one transaction that is too large is told as unknown, and the connection goes on."""
        reading = in_session(b"c", 0, transaction([], [get(b"k")]))
        self.asker.write([reading], self.done.append)
        self.network.flush()
        ((_, answer, _),) = self.store_behind.writes
        answer([(0, 1, True, ((5, (b"v" * 9 * MIB, 1, 1, 1, 0)),))])
        self.network.flush()
        (error,) = self.done
        self.assertIsInstance(error, errors.OutcomeUnknown)
        self.assertTrue(self.asker.is_ready)


class SmallMessageTests(CallTestCase):
    """A port whose messages are bounded lower."""

    settings = RpcSettings(limits=FrameLimits(max_message_bytes=2000))

    def test_answer_that_no_message_holds(self) -> None:
        """A read whose answer is too large for a message is refused, and the connection goes on."""
        self.fill(1, b"v" * 3000)
        self.assertIsInstance(self.ask("range"), errors.TooLarge)
        self.assertEqual(self.ask("range", keys_only=True)["count"], 1)
