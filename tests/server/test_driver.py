"""The driver: one turn at a time, in the order of ``Ready``, and not one step after a failure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from raftkv.errors import InvariantViolation, StorageError
from raftkv.interfaces import Identity, IPeerReceiver, IPeerTransport, IStorage, Recovered
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import Entry, EntryKind, Heartbeat, Message, SnapshotMeta
from raftkv.raft.ready import EntriesWanted, ReadState, Ready, Role, SoftState, Write
from raftkv.server.driver import NEWS_SECONDS, Driver

TICK_SECONDS = 0.1
BEAT = Heartbeat(term=1, sender="a", to="b", commit_index=0, read_round=0)
ENTRY = Entry(index=1, term=1, kind=EntryKind.NOOP, payload=b"")
META = SnapshotMeta(index=9, term=1, configuration=Configuration(), configuration_index=0)


class ScriptedNode:
    """A core that returns what a test has laid ready, and notes what it is told."""

    def __init__(self, events: list[Any]) -> None:
        self.node_id = "a"
        self.leader: str | None = "b"
        self.configuration = Configuration()
        self.events = events
        self.ready: list[Ready] = []
        self.times: list[float] = []
        self.refusal: Exception | None = None
        self.applying = True
        self.has_unwritten = False
        self.commit_index = self.told_index = 0
        self.role = Role.LEADER

    @property
    def has_untold_news(self) -> bool:
        return self.told_index < self.commit_index

    def tell_news(self) -> None:
        self._note("news")

    def may_apply(self, now: bool) -> None:
        self.applying = now

    def entries_read(self, wanted: EntriesWanted, entries: Sequence[Entry]) -> None:
        self._note(("entries", wanted.number, len(entries)))

    def committed_configuration(self) -> tuple[Configuration, int]:
        return self.configuration, 0

    def progress(self) -> dict[str, Any]:
        return {}

    def time_is(self, now: float) -> None:
        self.times.append(now)

    def has_ready(self) -> bool:
        return bool(self.ready)

    def take_ready(self) -> Ready:
        return self.ready.pop(0)

    def tick(self) -> None:
        self._note("tick")

    def step(self, message: Message) -> None:
        self._note("step")

    def advance(self, write_id: int) -> None:
        self._note(("advance", write_id))

    def report_unreachable(self, peer: str) -> None:
        self._note("unreachable")

    def report_closed(self, peer: str) -> None:
        self._note(("closed", peer))

    def campaign_early(self) -> None:
        self._note("early")

    def resign(self) -> tuple[Message, ...]:
        self.events.append("resign")
        return (BEAT,)

    def _note(self, what: Any) -> None:
        self.events.append(what)
        if self.refusal is not None:
            raise self.refusal


@implementer(IStorage)
class NotedStorage:
    """A disk that finishes when a test says so, or at once where it is quick and waited for."""

    def __init__(self, events: list[Any]) -> None:
        self._events = events
        self.is_quick = False

    def recover(self) -> Recovered:
        raise NotImplementedError

    def start(self, durable: Callable[[int], None], failed: Callable[[BaseException], None]) -> None:
        self.durable, self.failed = durable, failed

    def write(self, write: Write, *, may_wait: bool = False) -> None:
        self._events.append(("write", write.write_id))
        self.may_wait = may_wait
        if self.is_quick and may_wait:
            self.durable(write.write_id)

    def read(self, start: int, stop: int, max_bytes: int, done: Callable[[Sequence[Entry]], None]) -> None:
        self._events.append(("read", start, stop))
        self.read_done = done

    def compact(self, index: int) -> None:
        raise NotImplementedError

    def snapshot_taken(self, index: int) -> None:
        raise NotImplementedError

    def room_bytes(self) -> int:
        return 0

    def log_bytes(self) -> int:
        return 0

    def log_bytes_behind(self, index: int) -> int:
        return 0

    def stop(self) -> Deferred[None]:
        return succeed(None)


@implementer(IPeerTransport)
class NotedTransport:
    """A way to other members that notes what goes out."""

    def __init__(self, events: list[Any]) -> None:
        self._events = events

    def start(self, receiver: IPeerReceiver) -> None:
        pass

    def send(self, messages: Sequence[Message]) -> None:
        self._events.append("send")

    def set_members(self, configuration: Configuration) -> None:
        self._events.append("members")

    def leave(self) -> None:
        self._events.append("left")

    def send_snapshot(self, peer: str) -> None:
        self._events.append(("snapshot for", peer))

    def known_peers(self) -> Mapping[str, Identity]:
        return {}


class NotedApplier:
    """A state machine that notes what it is given, and breaks when told to."""

    def __init__(self, events: list[Any]) -> None:
        self._events = events
        self.refusal: Exception | None = None
        self.is_behind = False

    def apply(self, entries: tuple[Entry, ...]) -> None:
        self._events.append("apply")
        if self.refusal is not None:
            raise self.refusal

    def restore(self, snapshot: SnapshotMeta) -> None:
        self._events.append("restore")


class NotedParticipant:
    """Takes part in turns; may want something in one."""

    def __init__(self, events: list[Any]) -> None:
        self._events = events
        self.on_gather: Callable[[], None] = lambda: None

    def gather(self) -> None:
        self._events.append("gather")
        self.on_gather()

    def tick(self) -> None:
        self._events.append("participant ticks")

    def soft_state_changed(self, state: SoftState) -> None:
        self._events.append("role")


class DriverTestCase(SynchronousTestCase):
    """A driver among stand-ins that note everything in one list."""

    def setUp(self) -> None:
        self.events: list[Any] = []
        self.clock = Clock()
        self.node = ScriptedNode(self.events)
        self.storage = NotedStorage(self.events)
        self.applier = NotedApplier(self.events)
        self.participant = NotedParticipant(self.events)
        self.fatal: list[BaseException] = []
        self.driver = Driver(
            node=self.node,  # type: ignore[arg-type]
            clock=self.clock,
            storage=self.storage,
            transport=NotedTransport(self.events),
            applier=self.applier,
            tick_interval_seconds=TICK_SECONDS,
            random=random.Random(1),
            steady_seconds=self.steady,
            fatal=self.fatal.append,
        )
        self.driver.add_participant(self.participant)
        self.driver.deliver_reads_to(lambda reads: self.events.append("reads"))
        self.driver.startService()
        self.clock.advance(0)
        self.events.clear()
        self.addCleanup(self._stop)

    def steady(self) -> float:
        """Return the time of leases, here ahead of the reactor's."""
        return 1000 + self.clock.seconds()

    def _stop(self) -> None:
        self.successResultOf(self.driver.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TimeTests(DriverTestCase):
    """The time that leases go by."""

    def test_told_with_everything(self) -> None:
        """The core is told what the clock of leases reads with each message, tick and finished write, and in each
        turn: nothing that it does then rests on an earlier reading (B30, B31)."""
        self.clock.advance(0.01)
        for happen in (
            lambda: self.driver.received([BEAT]),
            lambda: self.driver.peer_unreachable("b"),
            lambda: self.storage.durable(1),
        ):
            self.node.times.clear()
            self.clock.advance(0.001)
            happen()
            self.assertEqual(self.node.times[0], self.steady())
        self.node.times.clear()
        self.driver.wake()
        self.clock.advance(0)
        self.assertEqual(self.node.times, [self.steady()])
        self.node.times.clear()
        self.clock.advance(TICK_SECONDS)
        self.assertEqual(self.node.times[0], self.steady())


class TurnTests(DriverTestCase):
    """What happens in a turn, and when there is one."""

    def test_order(self) -> None:
        """A ``Ready`` is carried out in its own order: the disk, messages that promise nothing, the state, reads."""
        self.node.configuration = Configuration(members={"b": Member(id="b")}, voters=frozenset("b"))
        self.node.ready = [
            Ready(
                configuration_changed=True,
                messages=(BEAT,),
                send_snapshots=("b",),
                write=Write(write_id=1, snapshot=META, entries=(ENTRY,)),
                soft_state=SoftState(role=Role.FOLLOWER, term=1, leader="b"),
                committed=(ENTRY,),
                reads=(ReadState(context=1, index=1),),
            )
        ]
        self.driver.wake()
        self.clock.advance(0)
        wanted = ["gather", "members", ("write", 1), "restore", "send", ("snapshot for", "b"), "role", "apply", "reads"]
        self.assertEqual(self.events, wanted)

    def test_one_turn_for_all(self) -> None:
        """Everything that arrives in one turn of the reactor shares one turn of the driver."""
        self.node.ready = [Ready(messages=(BEAT,))]
        for _ in range(3):
            self.driver.received([BEAT])
        self.driver.wake()
        self.clock.advance(0)
        self.assertEqual(self.events, ["step", "step", "step", "gather", "send"])

    def test_follower_acts_at_once(self) -> None:
        """A follower has its turn as soon as what came together has been taken in, with all of it."""
        self.node.role = Role.FOLLOWER
        self.node.ready = [Ready(messages=(BEAT,))]
        self.driver.received([BEAT, BEAT])
        self.assertEqual(self.events, ["step", "step", "gather", "send"])
        self.clock.advance(0)
        self.assertEqual(len(self.events), 4)

    def test_follower_acknowledges_first(self) -> None:
        """A follower that has something to write applies nothing until its disk is done, and then at once."""
        self.node.role = Role.FOLLOWER
        self.node.has_unwritten = True
        self.node.ready = [Ready(write=Write(write_id=1, entries=(ENTRY,)))]
        self.driver.received([BEAT])
        self.assertFalse(self.node.applying)
        self.node.has_unwritten = False
        self.storage.durable(1)
        self.assertTrue(self.node.applying)

    def test_leader_applies_while_it_writes(self) -> None:
        """A leader, whose clients wait for what it applies, does not wait for its disk."""
        self.node.role = Role.LEADER
        self.node.has_unwritten = True
        self.node.ready = [Ready(write=Write(write_id=1, entries=(ENTRY,)))]
        self.driver.received([BEAT])
        self.clock.advance(0)
        self.assertTrue(self.node.applying)

    def test_who_waits_for_the_disk(self) -> None:
        """A follower waits for a disk that is quick; a leader, whose others may do without its disk, never does."""
        for role, waits in ((Role.FOLLOWER, True), (Role.LEADER, False), (Role.CANDIDATE, False)):
            self.node.role = role
            self.node.ready = [Ready(write=Write(write_id=1, entries=(ENTRY,)))]
            self.driver.wake()
            self.clock.advance(0)
            self.assertIs(self.storage.may_wait, waits, role)

    def test_disk_that_is_waited_for(self) -> None:
        """What a quick disk makes possible is done in the same turn, and nothing of what came before is left out."""
        self.node.role = Role.FOLLOWER
        self.storage.is_quick = True
        self.node.ready = [Ready(write=Write(write_id=1, entries=(ENTRY,)), messages=(BEAT,)), Ready(messages=(BEAT,))]
        self.driver.received([BEAT])
        self.assertEqual(self.events, ["step", "gather", ("write", 1), ("advance", 1), "send", "send"])

    def test_steady_messages(self) -> None:
        """However messages come, each is acknowledged after its own sync, and what is committed is applied."""
        self.node.role = Role.FOLLOWER
        self.storage.is_quick = True
        self.driver.wake()  # a turn is due when the first message comes, and so the message is part of that
        for number in range(1, 4):
            self.node.ready = [
                Ready(write=Write(write_id=number, entries=(ENTRY,))),
                Ready(messages=(BEAT,), committed=(ENTRY,)),
            ]
            self.driver.received([BEAT])
            self.clock.advance(0)
            self.assertEqual(self.events[-5:], ["gather", ("write", number), ("advance", number), "send", "apply"])
            self.assertEqual(self.node.ready, [])

    def test_disk_that_fails_meanwhile(self) -> None:
        """Where the disk fails while it is waited for, nothing of the turn is carried out any more."""
        self.node.role = Role.FOLLOWER
        self.storage.write = lambda write, may_wait: self.storage.failed(StorageError("write", "log", "broken"))
        self.node.ready = [Ready(write=Write(write_id=1, entries=(ENTRY,)), messages=(BEAT,), committed=(ENTRY,))]
        self.driver.received([BEAT])
        self.assertEqual(self.events, ["step", "gather", "resign", "send"])  # the farewell, and nothing else

    def test_nothing_to_do(self) -> None:
        """A message, or a finished write, that leaves nothing to be done is no turn."""
        self.driver.received([BEAT])
        self.storage.durable(7)
        self.clock.advance(0)
        self.assertEqual(self.events, ["step", ("advance", 7)])

    def test_finished_write_is_a_turn(self) -> None:
        """A write that is done moves the core on at once: what waited for the disk waits for nothing else."""
        self.node.ready = [Ready(messages=(BEAT,))]
        self.storage.durable(7)
        self.assertEqual(self.events, [("advance", 7), "gather", "send"])

    def test_end_of_a_turn(self) -> None:
        """What asked for it is called when the turn has done all else, once; outside of a turn nobody is promised
        anything."""
        self.assertFalse(self.driver.at_turn_end(lambda: self.events.append("never")))

        def gather() -> None:
            self.assertTrue(self.driver.at_turn_end(lambda: self.events.append("end")))

        self.participant.on_gather = gather
        self.node.ready = [Ready(messages=(BEAT,), committed=(ENTRY,), reads=(ReadState(context=1, index=1),))]
        self.driver.wake()
        self.clock.advance(0)
        self.assertEqual(self.events, ["gather", "send", "apply", "reads", "end"])
        self.participant.on_gather = lambda: None
        self.events.clear()
        self.driver.wake()
        self.clock.advance(0)
        self.assertEqual(self.events, ["gather"])

    def test_end_of_a_turn_that_fails(self) -> None:
        """Likewise where the turn fails: what was answered before has to leave."""
        self.participant.on_gather = lambda: self.assertTrue(self.driver.at_turn_end(lambda: self.events.append("end")))
        self.applier.refusal = InvariantViolation("no")
        self.node.ready = [Ready(committed=(ENTRY,))]
        self.driver.wake()
        self.clock.advance(0)
        self.assertEqual(self.events[-2:], ["apply", "end"])
        self.assertEqual(len(self.fatal), 1)

    def test_end_of_a_turn_that_raises(self) -> None:
        """One that raises at the end is logged, and the others are called all the same."""

        def gather() -> None:
            self.driver.at_turn_end(lambda: self.events.remove("nothing like it"))
            self.driver.at_turn_end(lambda: self.events.append("end"))

        self.participant.on_gather = gather
        self.driver.wake()
        self.clock.advance(0)
        self.assertEqual(self.events, ["gather", "end"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.fatal, [])

    def test_wanted_within_a_turn(self) -> None:
        """What asks for a turn while one runs gets the next one, and does not have to wait for a tick."""
        wanted = [self.driver.wake]
        self.participant.on_gather = lambda: wanted.pop()() if wanted else None
        self.driver.wake()
        self.clock.advance(0)
        self.assertEqual(self.events, ["gather", "gather"])

    def test_reads_the_log_back(self) -> None:
        """What the core asks of the disk is asked of the storage, and its answer is a turn like anything else."""
        wanted = EntriesWanted(number=3, peer="b", start=5, stop=9, max_bytes=100)
        self.node.ready = [Ready(entries_wanted=(wanted,))]
        self.driver.wake()
        self.clock.advance(0)
        self.assertEqual(self.events, ["gather", ("read", 5, 9)])
        self.events.clear()
        self.node.ready = [Ready(committed=(ENTRY,))]
        self.storage.read_done([ENTRY])
        self.clock.advance(0)
        self.assertEqual(self.events, [("entries", 3, 1), "gather", "apply"])

    def test_answer_after_removal(self) -> None:
        """A node that was removed still applies what was committed before, also what it has to read back."""
        self.node.ready = [Ready(entries_wanted=(EntriesWanted(number=1, peer=None, start=5, stop=9, max_bytes=9),))]
        self.driver.wake()
        self.clock.advance(0)
        self.driver.fall_silent()
        self.events.clear()
        self.storage.read_done([ENTRY])
        self.assertEqual(self.events, [("entries", 1, 1)])

    def test_answer_after_the_end(self) -> None:
        """What the disk had comes too late for a driver that was stopped."""
        self.node.ready = [Ready(entries_wanted=(EntriesWanted(number=1, peer="b", start=5, stop=9, max_bytes=9),))]
        self.driver.wake()
        self.clock.advance(0)
        self.driver.stopService()
        self.events.clear()
        self.storage.read_done([ENTRY])
        self.assertEqual(self.events, [])

    def test_applier_behind(self) -> None:
        """While the state machine is behind, the core keeps what is committed: it could be more than fits in memory."""
        self.applier.is_behind = True
        self.driver.wake()
        self.clock.advance(0)
        self.assertFalse(self.node.applying)
        self.storage.durable(1)
        self.assertFalse(self.node.applying)
        self.applier.is_behind = False
        self.driver.wake()
        self.clock.advance(0)
        self.assertTrue(self.node.applying)

    def test_missed_ticks(self) -> None:
        """A process that stood still lives through one tick, not through all that it has missed."""
        self.clock.advance(50 * TICK_SECONDS)
        self.assertEqual(self.events.count("tick"), 1)
        self.assertEqual(self.events.count("participant ticks"), 1)

    def test_stopped(self) -> None:
        """A driver that was stopped takes nothing more."""
        self.driver.stopService()
        self.driver.received([BEAT])
        self.driver.wake()
        self.clock.advance(1)
        self.assertEqual(self.events, [])


class ClosedLeaderTests(DriverTestCase):
    """A leader whose process has ended."""

    def test_early_campaign(self) -> None:
        """The core hears of it at once, and within a tick that it may campaign; each node waits for another time."""
        waits: list[float] = []
        for _ in range(20):
            began = self.clock.seconds()
            self.events.clear()
            self.driver.peer_closed("b")
            self.assertEqual(self.events, [("closed", "b")])
            while "early" not in self.events:
                self.clock.advance(TICK_SECONDS / 100)
            waits.append(self.clock.seconds() - began)
        self.assertLessEqual(max(waits), 1.02 * TICK_SECONDS)
        self.assertGreater(max(waits) - min(waits), TICK_SECONDS / 2)
        self.assertEqual(self.driver.leaders_gone, 20)

    def test_only_the_leader(self) -> None:
        """That somebody else has ended concerns nobody."""
        self.driver.peer_closed("c")
        self.assertEqual(self.events, [])
        self.assertEqual(self.driver.leaders_gone, 0)

    def test_while_stopping(self) -> None:
        """A driver that stops, or that has nothing to say any more, does not care who else ends, now or later."""
        self.driver.peer_closed("b")
        self.driver.fall_silent()
        self.events.clear()
        self.driver.peer_closed("b")
        self.clock.advance(TICK_SECONDS)
        self.assertNotIn("early", self.events)
        self.driver.stopService()
        self.driver.peer_closed("b")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped_before_the_campaign(self) -> None:
        """A driver that stops before it was to campaign does not, and leaves no timer."""
        self.driver.peer_closed("b")
        self.driver.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failed_before_the_campaign(self) -> None:
        """Nor does one that fails."""
        self.driver.peer_closed("b")
        self.driver.fail(InvariantViolation("two leaders"))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FailureTests(DriverTestCase):
    """A silent node is safe and a wrong one is not."""

    def failed_with(self, error: Exception) -> None:
        """Assert that the node has stopped for good: told once, and silent whatever happens next."""
        self.assertEqual(self.fatal, [error])
        self.events.clear()
        self.node.refusal = self.applier.refusal = None
        self.node.ready = [Ready(messages=(BEAT,), committed=(ENTRY,), write=Write(write_id=2))]
        self.driver.received([BEAT])
        self.driver.wake()
        self.driver.peer_unreachable("b")
        self.driver.peer_closed("b")
        self.storage.durable(1)
        self.storage.failed(StorageError("fdatasync", "log", "again"))
        self.clock.advance(10 * TICK_SECONDS)
        self.assertEqual(self.events, [])
        self.assertEqual(self.fatal, [error])

    def test_news_of_a_turn_that_failed(self) -> None:
        """A turn that fails leaves no timer, whatever there would have been to tell."""
        self.applier.refusal = InvariantViolation("no")
        self.node.commit_index = 1
        self.node.ready = [Ready(committed=(ENTRY,))]
        self.driver.wake()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.failed_with(self.applier.refusal)

    def test_core_refuses_a_message(self) -> None:
        """A core that raises has failed, whoever called it."""
        self.node.refusal = InvariantViolation("two leaders")
        self.driver.received([BEAT])
        self.failed_with(self.node.refusal)

    def test_turn_that_was_due(self) -> None:
        """A turn that was due when the core failed is not taken: nobody knows what such a core would ask for."""
        self.driver.received([BEAT])
        self.node.ready = [Ready(messages=(BEAT,))]
        error = self.node.refusal = InvariantViolation("two leaders")
        self.driver.received([BEAT])
        self.clock.advance(0)
        self.assertNotIn("send", self.events)
        self.failed_with(error)

    def test_core_refuses_a_finished_write(self) -> None:
        """A core that raises when a write is done has failed too, though nobody but a worker is told."""
        self.node.refusal = InvariantViolation("never asked for")
        self.storage.durable(1)
        self.failed_with(self.node.refusal)

    def test_core_refuses_a_tick(self) -> None:
        """A core that raises at a tick has failed, and nobody else is given that tick."""
        self.node.refusal = InvariantViolation("no")
        self.clock.advance(TICK_SECONDS)
        self.assertEqual(self.events, ["tick"])
        self.failed_with(self.node.refusal)

    def test_state_machine_fails(self) -> None:
        """An entry that cannot be applied stops the node in the middle of the turn: no read is answered after it."""
        error = self.applier.refusal = InvariantViolation("unknown command")
        self.node.ready = [Ready(committed=(ENTRY,), reads=(ReadState(context=1, index=1),))]
        self.driver.wake()
        self.clock.advance(0)
        self.assertEqual(self.events, ["gather", "apply"])
        self.failed_with(error)

    def test_disk_fails(self) -> None:
        """A disk that fails stops the node (B43)."""
        error = StorageError("fdatasync", "log", "input/output error")
        self.storage.failed(error)
        self.failed_with(error)

    def test_last_words(self) -> None:
        """A node whose disk fails lets another lead at once, and says nothing else; one that broke a rule is silent,
        for nothing that its core says can be believed (B50)."""
        self.storage.failed(StorageError("write", "log", "No space left on device"))
        self.assertEqual(self.events, ["resign", "send"])
        self.setUp()
        self.driver.fail(InvariantViolation("two leaders"))
        self.assertEqual(self.events, [])

    def test_who_waits_is_told(self) -> None:
        """Whoever looks after those that wait hears of the failure, once, when it is known to all."""
        told: list[BaseException | None] = []
        self.driver.when_failed(lambda: told.append(self.driver.failure))
        error = StorageError("fdatasync", "log", "input/output error")
        self.driver.fail(error)
        self.driver.fail(InvariantViolation("a consequence"))
        self.assertEqual(told, [error])


class NewsTests(DriverTestCase):
    """When followers are told what is committed, if no entries tell them."""

    def turn(self, *, commit_index: int, told_index: int) -> None:
        """Live through a turn that leaves the core with these."""
        self.node.commit_index, self.node.told_index = commit_index, told_index
        self.driver.wake()
        self.clock.advance(0)
        self.events.clear()

    def test_after_a_while(self) -> None:
        """What nothing else has told is told in a message of its own, once the time is over."""
        self.turn(commit_index=1, told_index=0)
        self.clock.advance(NEWS_SECONDS * 0.9)
        self.assertEqual(self.events, [])
        self.clock.advance(NEWS_SECONDS * 0.1)
        self.assertEqual(self.events[0], "news")

    def test_told_by_entries(self) -> None:
        """Nothing is sent where entries have told the news in the meantime, and nothing is watched any more."""
        self.turn(commit_index=1, told_index=0)
        self.node.told_index = 1
        self.clock.advance(NEWS_SECONDS)
        self.assertEqual(self.events, [])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1, "the next tick alone")

    def test_newer_news(self) -> None:
        """Under load, when entries tell the news all the time, no message of its own is ever due."""
        for index in range(1, 20):
            self.turn(commit_index=index, told_index=index - 1)
            self.clock.advance(NEWS_SECONDS / 3)
            self.assertEqual(self.events, [])

    def test_bound(self) -> None:
        """What came just after the last look waits for two of them and no longer."""
        self.turn(commit_index=1, told_index=0)
        self.clock.advance(NEWS_SECONDS / 10)
        self.turn(commit_index=2, told_index=1)
        self.clock.advance(NEWS_SECONDS)
        self.assertEqual(self.events, [])
        self.clock.advance(NEWS_SECONDS)
        self.assertEqual(self.events[0], "news")

    def test_stopped(self) -> None:
        """A driver that has stopped tells nothing, and leaves no timer behind."""
        self.turn(commit_index=1, told_index=0)
        self.successResultOf(self.driver.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])
