"""A node whose log is damaged: whom it asks, for how long, and when it may give up what nobody has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import CorruptData, NoLeader, StorageError
from raftkv.interfaces import EntriesAnswer, EntriesRequest
from raftkv.protocols.repairs import encode_answer
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import Entry, EntryKind
from raftkv.server.repairing import Repairing

LACKS = EntriesAnswer()
MAY_HAVE_LOST = EntriesAnswer(is_damaged=True)


def has(index: int) -> EntriesAnswer:
    """Return the answer of who has an entry."""
    return EntriesAnswer(previous_term=1, entries=(Entry(index=index, term=1, kind=EntryKind.COMMANDS, payload=b"x"),))


class FakeRepair:
    """A log that lacks some entries."""

    term = 1
    end_is_lost = False
    first_damage = CorruptData("log", 0, "damaged")

    def __init__(self, *lacking: int) -> None:
        self.lacking = list(lacking)
        self.written: list[int] | None = None
        self.error: StorageError | None = None

    def missing(self) -> list[int]:
        return self.lacking

    def request(self) -> EntriesRequest | None:
        if not self.lacking:
            return None
        index = self.lacking[0]
        return EntriesRequest(anchor_index=index, anchor_term=1, first=index, stop=index + 1)

    def take(self, request: EntriesRequest, answer: EntriesAnswer) -> bool:
        if answer.entries:
            self.lacking.remove(request.first)
        return bool(answer.entries)

    def write(self) -> int:
        if self.error is not None:
            raise self.error
        self.written = list(self.lacking)
        return 9


class FakeWorld:
    """The other members: what each of them answers for each entry, nothing where it cannot be reached."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], EntriesAnswer] = {}
        self.asked: list[tuple[str, int]] = []

    def call(self, rpc_addr: str, name: str, arguments: Mapping[str, Any]) -> Deferred[Any]:
        self.asked.append((rpc_addr, arguments["first"]))
        answer = self.answers.get((rpc_addr, arguments["first"]))
        return fail(NoLeader()) if answer is None else succeed(encode_answer(answer))

    def start(self, receiver: Any) -> None:
        """Nothing is delivered."""

    def set_members(self, configuration: Configuration) -> None:
        """All are known by their addresses."""

    def known_peers(self) -> dict[str, Any]:
        return {}


class RepairingTests(SynchronousTestCase):
    """Node ``a`` of three, or of more."""

    def begin(self, *lacking: int, names: str = "abc", learners: str = "") -> None:
        """Let a node begin to repair its log."""
        self.clock, self.world, self.repair = Clock(), FakeWorld(), FakeRepair(*lacking)
        self.done: list[str] = []
        self.errors: list[BaseException] = []
        members = {name: Member(id=name, rpc_addr=name) for name in names}
        configuration = Configuration(
            members=members, voters=frozenset(names) - set(learners), learners=frozenset(learners)
        )
        repair: Any = self.repair
        world: Any = self.world
        self.service = Repairing(
            repair=repair,
            node_id="a",
            known=[configuration],
            transport=world,
            forwarder=world,
            clock=self.clock,
            repaired=lambda: self.done.append("repaired"),
            fatal=self.errors.append,
        )
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.addCleanup(self.service.stopService)

    def answer(self, name: str, index: int, answer: EntriesAnswer) -> None:
        self.world.answers[name, index] = answer

    def wait(self) -> None:
        """Let the longest pause between two questions pass."""
        self.clock.advance(4.0)

    def assert_asking(self) -> None:
        self.wait()
        self.assertIsNone(self.repair.written)

    def test_whole_again(self) -> None:
        """B41: each member is asked for what is missing until somebody has it; then the log is written, once."""
        self.begin(3, 5)
        self.answer("b", 3, LACKS)
        self.answer("c", 3, has(3))
        self.answer("b", 5, has(5))
        self.service.startService()
        self.assertEqual(self.world.asked, [("b", 3), ("c", 3), ("b", 5)])
        self.assertEqual((self.repair.written, self.done), ([], ["repaired"]))

    def test_nobody_reached(self) -> None:
        """B41: as long as nobody can be reached it goes on asking, ever more seldom."""
        self.begin(3)
        self.service.startService()
        for seconds, rounds in ((0.1, 2), (0.2, 3), (0.4, 4), (0.8, 5), (1.6, 6), (3.2, 7), (4.0, 8), (4.0, 9)):
            self.clock.advance(seconds)
            self.assertEqual(len(self.world.asked), 2 * rounds)
        self.answer("c", 3, has(3))
        self.wait()
        self.assertEqual(self.done, ["repaired"])

    def test_own_vote_does_not_count(self) -> None:
        """B41, B42: two of three decide without the one that lacks it, which does not know whether it had it."""
        self.begin(3)
        self.answer("b", 3, LACKS)
        self.service.startService()
        self.assert_asking()
        self.answer("c", 3, LACKS)
        self.wait()
        self.assertEqual((self.repair.written, self.done), ([3], ["repaired"]))

    def test_who_may_have_lost_it(self) -> None:
        """B41: a member whose own log is damaged says nothing by lacking an entry."""
        self.begin(3)
        self.answer("b", 3, LACKS)
        self.answer("c", 3, MAY_HAVE_LOST)
        self.service.startService()
        self.assert_asking()

    def test_each_entry_anew(self) -> None:
        """B41: who lacked one entry may have the next: both of the others have to lack that very one."""
        self.begin(3, 5)
        self.answer("b", 3, LACKS)
        self.answer("c", 3, has(3))
        self.answer("c", 5, LACKS)
        self.service.startService()
        self.assert_asking()
        self.answer("b", 5, has(5))
        self.wait()
        self.assertEqual(self.repair.written, [])

    def test_learners_do_not_decide(self) -> None:
        """B41: that learners lack an entry does not say that the voters do; but what they have is taken."""
        self.begin(3, names="abcde", learners="de")
        for name in "bde":
            self.answer(name, 3, LACKS)
        self.service.startService()
        self.assert_asking()
        self.answer("e", 3, has(3))
        self.wait()
        self.assertEqual(self.repair.written, [])

    def test_cannot_be_written(self) -> None:
        """B43: where the log cannot be written the node stops."""
        self.begin()
        self.repair.error = StorageError("write", "log", OSError(5, "gone"))
        self.service.startService()
        self.assertEqual((self.errors, self.done), ([self.repair.error], []))

    def test_stopped(self) -> None:
        """A node that is stopped asks no more."""
        self.begin(3)
        self.service.startService()
        asked = len(self.world.asked)
        self.service.stopService()
        self.wait()
        self.assertEqual((len(self.world.asked), self.errors), (asked, []))
