"""``KVClient`` against the real HTTP API over the real store, all in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv import errors
from raftkv.client import Deleted, KVClient, Record, ValueNotText, Written
from tests.client.fakes import FixedRandom
from tests.client.onenode import OneNode


class ApiTests(SynchronousTestCase):
    """The client and the server understand each other."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.node = OneNode()
        self.client = KVClient(
            "http://127.0.0.1:8080",
            reactor=self.clock,
            treq_client=self.node.treq(self.clock),
            random=FixedRandom(),  # type: ignore[arg-type]
            entropy=bytes,
        )
        self.addCleanup(self.check_quiet)

    def check_quiet(self) -> None:
        self.successResultOf(self.client.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def run_call(self, call: Deferred[Any]) -> Any:
        self.clock.advance(0.1)
        return self.successResultOf(call)

    def test_life_of_a_key(self) -> None:
        """A key is set, read, overwritten, deleted and gone."""
        self.assertEqual(self.run_call(self.client.set("key1", "value1")), Written(revision=1))
        self.assertEqual(self.run_call(self.client.get("key1")), "value1")
        self.run_call(self.client.set("key1", "väl"))
        expected = Record(key="key1", value="väl".encode(), create_revision=1, mod_revision=2, version=2)
        self.assertEqual(self.run_call(self.client.get_record("key1")), expected)
        self.assertEqual(self.run_call(self.client.delete("key1")), Deleted(deleted=True, revision=3))
        self.assertEqual(self.run_call(self.client.delete("key1")), Deleted(deleted=False, revision=3))
        self.assertIsNone(self.run_call(self.client.get("key1")))
        self.assertIsNone(self.run_call(self.client.get_bytes("key1")))

    def test_any_key_and_value(self) -> None:
        """Every key that is UTF-8 and every value come back as they went."""
        for key in ("a/b", "a//b/", "..", ".", "a%2Fb", "ä €𝄞", "?x=1#y", "+ &", "\n\x00", "k" * 4096):
            for value in (b"", b"\xff\x00\xfe", "é\n".encode()):
                self.run_call(self.client.set(key, value))
                self.assertEqual(self.run_call(self.client.get_bytes(key)), value)
                record = self.run_call(self.client.get_record(key))
                self.assertEqual((record.key, record.value), (key, value))
        self.assertEqual(self.node.store.key_count, 10)

    def test_value_not_text(self) -> None:
        """A value that is not UTF-8 is told by its own error."""
        self.run_call(self.client.set("k", b"\xff"))
        self.failureResultOf(self.client.get("k"), ValueNotText)

    def test_conditions(self) -> None:
        """Compare-and-set and compare-and-delete hold what they say, and tell the present mod revision."""
        self.run_call(self.client.set("k", "1", if_mod_revision=0))
        error = self.failureResultOf(self.client.set("k", "2", if_mod_revision=0), errors.PreconditionFailed).value
        self.assertEqual(error.mod_revision, 1)
        self.run_call(self.client.set("k", "2", if_mod_revision=1))
        self.run_call(self.client.set("k", "3", if_exists=True))
        self.failureResultOf(self.client.set("l", "1", if_exists=True), errors.PreconditionFailed)
        self.failureResultOf(self.client.delete("k", if_mod_revision=1), errors.PreconditionFailed)
        self.failureResultOf(self.client.delete("l", if_exists=True), errors.PreconditionFailed)
        self.assertEqual(self.run_call(self.client.delete("k", if_mod_revision=3)), Deleted(deleted=True, revision=4))

    def test_exactly_once(self) -> None:
        """B63: a write whose answers are lost twice is applied once, and gets the first answer."""
        self.node.refusals = [errors.OutcomeUnknown(), errors.RequestTimeout("too slow", "unknown")]
        call = self.client.set("k", "v")
        self.clock.pump([0.1] * 10)
        self.assertEqual(self.successResultOf(call), Written(revision=1))
        self.assertEqual((self.node.applied, self.node.store.revision), (3, 1))

    def test_exactly_once_condition(self) -> None:
        """B63: a compare-and-set whose answer is lost does not fail by its own effect."""
        self.run_call(self.client.set("k", "1"))
        self.node.refusals = [errors.OutcomeUnknown()]
        call = self.client.set("k", "2", if_mod_revision=1)
        self.clock.pump([0.1] * 10)
        self.assertEqual(self.successResultOf(call), Written(revision=2))

    def test_limits(self) -> None:
        """What the server refuses comes as the typed error with the server's sentence."""
        error = self.failureResultOf(self.client.set("k" * 4097, "v"), errors.TooLarge).value
        self.assertIn("4097", str(error))

    def test_administration(self) -> None:
        """Status and cluster are understood."""
        status = self.run_call(self.client.status())
        self.assertEqual((status.node_id, status.role, status.revision), ("node1", "leader", 0))
        self.assertEqual([member.id for member in self.run_call(self.client.cluster()).members], ["node1"])

    def test_read_consistencies(self) -> None:
        """Every consistency is accepted."""
        for consistency in ("linearizable", "lease", "stale"):
            self.assertIsNone(self.run_call(self.client.get("k", consistency=consistency)))

    def test_bound_of_staleness(self) -> None:
        """A stale read may bound how old the state is, which reaches the node."""
        self.run_call(self.client.set("k", "v"))
        for read in (self.client.get, self.client.get_bytes, self.client.get_record):
            self.assertIsNotNone(self.run_call(read("k", consistency="stale", max_stale=0.5)))
        self.assertEqual(self.node.bounds, [0.5] * 3)

    def test_staleness(self) -> None:
        """The record of a stale read tells how old the state may be that it is of; that of another read does not."""
        self.run_call(self.client.set("k", "v"))
        for age, told in ((0.25, 0.25), (None, None)):
            self.node.age = age
            self.assertEqual(self.run_call(self.client.get_record("k", consistency="stale")).staleness, told)
        self.node.age = 0.25
        self.assertIsNone(self.run_call(self.client.get_record("k")).staleness)
