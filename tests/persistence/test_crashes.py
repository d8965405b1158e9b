"""Storage that loses its power at any step, many times over: nothing reported durable is ever lost."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import CorruptData, StorageError
from raftkv.persistence.directory import open_directory
from raftkv.persistence.hardstate import HARD_STATE_FILE
from raftkv.persistence.log import LOG_FOLDER, LogSettings
from raftkv.persistence.storage import Storage
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Entry, EntryKind, HardState, SnapshotMeta
from raftkv.raft.ready import Write
from raftkv.testing.disk import MemoryDisk, PowerLoss
from raftkv.testing.worker import ClockWorker

SETTINGS = LogSettings(segment_bytes=4096, max_batch_bytes=2048, zero_ahead_bytes=512)


class Model:
    """What a node has asked for and been told, kept in the plainest way.

    :ivar states: for each write of this life, from 0 for what was recovered: hard state, snapshot index, entries.
    """

    def __init__(self, random: random.Random) -> None:
        self.random = random
        self.disk = MemoryDisk()
        self.clock = Clock()
        self.snapshot: SnapshotMeta | None = None
        self.lives = 0

    def open(self) -> None:
        """Start a life: recover, and check what came back against what was promised."""
        self.lives += 1
        meta = open_directory(
            self.disk,
            node_id="a",
            cluster_id=None,
            make_identity=lambda: ("c1", f"{self.lives:x}"),
            settings=SETTINGS,
        )
        self.worker = ClockWorker(self.clock, lambda _items: self.random.choice((0.0, 0.01, 0.05)))
        self.reader = ClockWorker(self.clock, lambda _items: self.random.choice((0.0, 0.01, 0.05)))
        self.storage = Storage(
            self.disk,
            self.worker,
            self.reader,
            meta=meta,
            newest_snapshot=lambda: self.snapshot,
            settings=SETTINGS,
            progress=lambda _done, _all: None,
        )
        self.recovered = self.storage.recover()

    def begin(self) -> None:
        """Take what was recovered for the state that this life starts from."""
        self.term = self.recovered.hard_state.term
        self.vote = self.recovered.hard_state.voted_for
        first = self.recovered.entries[0].index if self.recovered.entries else None
        self.base = first - 1 if first is not None else (self.snapshot.index if self.snapshot else 0)
        self.log = list(self.recovered.entries)
        self.hard_states = [self.recovered.hard_state]
        self.logs = [(self.base, list(self.log))]
        self.durable = 0
        self.failures: list[BaseException] = []
        self.storage.start(self._durable, self.failures.append)

    def _durable(self, write_id: int) -> None:
        self.durable = write_id

    @property
    def last_index(self) -> int:
        """Index of the last entry asked for."""
        return self.base + len(self.log)

    def entries(self, first: int, term: int) -> tuple[Entry, ...]:
        """Make up some entries, some of them full of zeros and some too large for a sector."""
        payloads = (b"", b"x", b"\0" * 700, bytes(range(256)) * 3, b"y" * 40, b"z" * 1100 + b"\0")
        return tuple(
            Entry(
                index=first + number,
                term=term,
                kind=EntryKind.COMMANDS,
                payload=self.random.choice(payloads) + b"%d.%d" % (term, self.lives),
            )
            for number in range(self.random.randint(1, 4))
        )

    def ask(self) -> None:
        """Ask for one random write, as a node could."""
        hard_state = None
        draw = self.random.random()
        if draw < 0.3:
            self.term += self.random.randint(1, 2)
            self.vote = self.random.choice((None, "a", "b"))
            hard_state = HardState(term=self.term, voted_for=self.vote)
        snapshot = None
        entries: tuple[Entry, ...] = ()
        if self.term and 0.2 < draw < 0.9:
            lowest = max(self.base, self.snapshot.index if self.snapshot else 0) + 1
            first = self.last_index + 1
            if self.log and hard_state is not None and first > lowest:
                first = self.random.randint(lowest, first)
            entries = self.entries(first, self.term)
            self.log = [entry for entry in self.log if entry.index < first] + list(entries)
        elif self.term and draw >= 0.95:
            index = self.last_index + self.random.randint(1, 5)
            snapshot = SnapshotMeta(index=index, term=self.term, configuration=Configuration(), configuration_index=0)
            self.snapshot = snapshot  # its file is safe before anybody asks for the write
            self.base, self.log = index, []
        if hard_state or snapshot or entries:
            self.hard_states.append(HardState(term=self.term, voted_for=self.vote))
            self.logs.append((self.base, list(self.log)))
            self.storage.write(
                Write(write_id=len(self.logs) - 1, hard_state=hard_state, snapshot=snapshot, entries=entries)
            )
        if 0.9 < draw < 0.95 and self.durable and self.logs[self.durable][1]:
            _base, durable_log = self.logs[self.durable]
            held = {entry.index: entry.term for entry in self.log}
            last = durable_log[self.random.randrange(len(durable_log))]
            if held.get(last.index) == last.term and (self.snapshot is None or last.index > self.snapshot.index):
                self.snapshot = SnapshotMeta(
                    index=last.index, term=last.term, configuration=Configuration(), configuration_index=0
                )
                self.storage.snapshot_taken(last.index)
                self.storage.compact(max(0, last.index - self.random.randint(0, 3)))

    def break_disk(self) -> None:
        """Let one of the next writes or syncs fail."""
        place = self.random.choice(("", LOG_FOLDER, HARD_STATE_FILE))
        self.disk.fail_next(self.random.choice(("write", "sync", "sync", "sync")), place)

    def die(self) -> None:
        """End the process, which leaves what it wrote to the system; that may forget what it could not sync."""
        self.worker.crash()
        self.disk.evict(self.random)

    def crash(self) -> None:
        """Lose the power now, perhaps in the middle of the work that has gathered."""
        self.disk.lose_power_after(self.random.randint(0, 12))
        self.worker.crash(tear=self.random.random() < 0.8)
        self.disk.crash(self.random)


def same_log(found: Any, base: int, expected: list[Entry], snapshot_index: int) -> bool:
    """Tell whether what was found is this log, as far as the snapshot does not stand for it."""
    wanted = [entry for entry in expected if entry.index > snapshot_index]
    return [entry for entry in found if entry.index > snapshot_index] == wanted


class CrashTests(SynchronousTestCase):
    """Many lives of one data directory, each ended by a loss of power."""

    def run_seed(self, seed: int, *, lives: int = 4, errors: float = 0.0) -> int:
        """Live and crash a few times; return how many writes had been reported durable.

        :param errors: how likely it is that the disk refuses something, at each start and in each life.
        """
        model = Model(random.Random(seed))
        reported = 0
        expected: tuple[list[HardState], list[tuple[int, list[Entry]]], int] | None = None
        for _life in range(lives):
            self.open(model, errors)
            self.check(model, expected, seed)
            model.begin()
            steps = model.random.randint(0, 40)
            breaks_at = model.random.randrange(steps + 1) if model.random.random() < errors else None
            for step in range(steps):
                if step == breaks_at:
                    model.break_disk()
                model.ask()
                model.clock.advance(model.random.choice((0.0, 0.005, 0.03)))
                if breaks_at is None:
                    self.assertEqual(model.failures, [])
                elif model.failures:
                    self.assertIsInstance(model.failures[0], StorageError)
                    break
            reported += model.durable
            model.disk.mend()
            if errors and model.random.random() < 0.5:
                model.die()
            else:
                model.crash()
            expected = (model.hard_states, model.logs, model.durable)
        return reported

    def open(self, model: Model, errors: float) -> None:
        """Start a life, in as many attempts as it takes."""
        while True:
            if model.random.random() < 0.3:
                model.disk.lose_power_after(model.random.randint(0, 30))
            if model.random.random() < errors:
                model.break_disk()
            try:
                model.open()
                return
            except PowerLoss:
                model.disk.crash(model.random)
            except CorruptData:
                raise
            except StorageError:
                model.disk.evict(model.random)
            finally:
                model.disk.lose_power_after(None)
                model.disk.mend()

    def check(self, model: Model, expected: Any, seed: int) -> None:
        """Compare what was recovered with every state that the crash may have left."""
        if expected is None:
            self.assertTrue(model.recovered.is_new)
            return
        hard_states, logs, durable = expected
        found = model.recovered
        context = f"seed {seed}, life {model.lives}, durable {durable} of {len(logs) - 1}"
        snapshot_index = 0 if model.snapshot is None else model.snapshot.index
        raised = HardState(term=model.snapshot.term) if model.snapshot else None
        self.assertIn(found.hard_state, [*hard_states[durable:], raised], context)
        self.assertGreaterEqual(found.hard_state.term, hard_states[durable].term, context)
        self.assertEqual(
            [entry.index for entry in found.entries],
            list(range(found.entries[0].index, found.entries[0].index + len(found.entries))) if found.entries else [],
        )
        if found.entries:
            self.assertLessEqual(found.entries[0].index, snapshot_index + 1, context)
            self.assertLessEqual(found.entries[-1].term, found.hard_state.term, context)
        legal = any(same_log(found.entries, base, log, snapshot_index) for base, log in prefixes(logs, durable))
        self.assertTrue(legal, context)

    def test_durable_is_recovered(self) -> None:
        """B1, B3, B4, B44, B45: whatever was reported durable comes back after any loss of power, as a state that
        was asked for at some time, with a term and vote that never go back and never lie behind the entries."""
        reported = sum(self.run_seed(seed) for seed in range(250))
        self.assertGreater(reported, 1000)  # else the seeds test nothing

    def test_failed_syncs(self) -> None:
        """B43, B49: the same where the disk refuses writes and syncs, and the system takes for clean what it could not
        sync: what a later start reads of it is there after a loss of power too, and never refused as damage."""
        reported = sum(self.run_seed(seed, lives=8, errors=0.5) for seed in range(1000, 1150))
        self.assertGreater(reported, 1000)


def prefixes(logs: list[tuple[int, list[Entry]]], durable: int) -> Any:
    """Yield each log that a crash may leave: a write takes effect in part too, truncation first, entry by entry."""
    yield logs[durable]
    for (_, before), (base, after) in zip(logs[durable:], logs[durable + 1 :], strict=False):
        common = 0
        while common < min(len(before), len(after)) and before[common] == after[common]:
            common += 1
        for length in range(common, len(after) + 1):
            yield base, after[:length]
