"""Three whole nodes: what an answer stands for, what a slow disk does, what a crash at the worst moment leaves."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from raftkv.errors import RaftKVError
from raftkv.kvstore.commands import put
from raftkv.testing.cluster import ClusterSettings
from tests.server.trio import NAMES, TrioTestCase


class AnswerTests(TrioTestCase):
    """An answered write is on a majority's disks before anybody hears of it."""

    def test_synced_before_it_is_answered(self) -> None:
        """In the order of syncs and answers, each answer to a write stands behind the syncs of its entry on two of the
        three nodes, through whichever node it came (B4)."""
        for number in range(60):
            self.write(NAMES[number % 3], put(b"k%d" % number, b"value %d;" % number))
            self.run_for(0.003)
        self.run_for(1)
        answered = 0
        for place, event in enumerate(self.trace):
            if event[0] != "answered":
                continue
            _, command, outcome = event
            self.assertNotIsInstance(outcome, RaftKVError)
            holders = {node for kind, node, payload in self.trace[:place] if kind == "synced" and command[3] in payload}
            self.assertGreaterEqual(len(holders), 2, f"{command} was answered with {holders} having synced it")
            answered += 1
        self.assertEqual(answered, 60)

    def test_on_the_medium_when_it_is_answered(self) -> None:
        """When a write is answered, the medium of two of the three nodes holds its bytes: not what was written and may
        yet be lost, but what a loss of power in this moment would leave (B4)."""
        holders: list[int] = []

        def look(number: int, outcome: Any) -> None:
            self.assertNotIsInstance(outcome, RaftKVError)
            disks = (self.cluster.nodes[name].disk for name in NAMES)
            wanted = b"value %d;" % number
            holders.append(sum(any(wanted in data for data in disk.on_medium().values()) for disk in disks))

        for number in range(20):
            self.write(NAMES[number % 3], put(b"k%d" % number, b"value %d;" % number), partial(look, number))
            self.run_for(0.004)
        self.run_for(1)
        self.assertEqual(len(holders), 20)
        self.assertGreaterEqual(min(holders), 2)
        self.assertIn(2, holders, "nobody waits for the slowest of the three")

    def test_leaders_own_disk_is_one_of_three(self) -> None:
        """A write is answered though the leader's own disk hangs, for two others have it; and not where one of these
        hangs too."""
        leader = self.settle()
        follower = next(name for name in NAMES if name != leader)
        self.cluster.nodes[leader].stall_disk()
        first = self.write(leader, put(b"a", b"1"))
        self.run_for(0.2)
        self.assertEqual([results[0][0] for results in first], [0])
        self.cluster.nodes[follower].stall_disk()
        second = self.write(leader, put(b"b", b"2"))
        self.run_for(0.2)
        self.assertEqual(second, [])
        self.cluster.nodes[follower].disk_recovers()
        self.run_for(0.2)
        self.assertEqual([results[0][0] for results in second], [0])


class PowerFailureTests(TrioTestCase):
    """Every node loses its power in the very moment in which a write is answered."""

    def test_at_the_moment_of_the_answer(self) -> None:
        """Whatever was answered before all nodes lost their power at once is there afterwards (B4, B51, B52)."""
        for number in range(12):
            answered = self._lose_power_at_an_answer(number)
            for key in answered:
                self.assertEqual(self.read(NAMES[(number + 1) % 3], key)[0], key)

    def _lose_power_at_an_answer(self, round_number: int) -> list[bytes]:
        """Write, end all lives in the moment of an answer, and begin new ones; return what was answered."""
        answered: list[bytes] = []
        last = b"%d/%d" % (round_number, 3 + round_number % 5)
        for number in range(8):
            key = b"%d/%d" % (round_number, number)
            self.write(NAMES[round_number % 3], put(key, key), lambda _, key=key: answered.append(key))  # type: ignore[misc]
            self.run_for(0.002)
        self.assertTrue(self.cluster.clock.run_while(lambda: last not in answered, limit_seconds=5))
        for name in NAMES:
            self.cluster.crash(name, power_loss=True)
        self.cluster.start_all()
        self.settle()
        return answered


class SlowDiskTests(TrioTestCase):
    """A node whose disk is always a little behind what is committed."""

    settings = ClusterSettings(snapshot_interval_seconds=0.5, snapshot_threshold_bytes=4096, trailing_entries=10)

    def test_takes_snapshots(self) -> None:
        """Under a load that never pauses a node that has applied what its own disk does not have yet takes snapshots
        all the same, so that its log does not grow for ever."""
        leader = self.settle()
        slow = next(name for name in NAMES if name != leader)
        self.cluster.nodes[slow].disk_delay_seconds = 0.2
        number = 0

        def again(outcome: Any) -> None:
            nonlocal number
            number += 1
            self.run_in_next_turn(leader, put(b"k%d" % (number % 9), b"%5d" % number * 20), again)

        for _ in range(8):
            again(None)
        unstable = 0
        for _ in range(50):
            self.run_for(0.1)
            replica = self.replica(slow)
            unstable += replica.state_machine.store.applied_index > replica.driver.node.stable_index
        self.assertGreater(unstable, 40, "the disk is not slow enough for this test")
        self.assertGreater(self.replica(slow).snapshotter.taken, 2)
        self.assertLess(self.replica(slow).driver.node.first_index, self.replica(slow).driver.node.last_index)

    def run_in_next_turn(self, name: str, command: Any, then: Any) -> None:
        """Submit a write out of a turn of its own, as a client's next request comes."""
        self.cluster.clock.callLater(0.001, self.write, name, command, then)

    def test_restarts_from_them(self) -> None:
        """A snapshot that was begun ahead of the disk is never ahead of the log after a power failure."""
        self.test_takes_snapshots()
        for name in NAMES:
            self.cluster.crash(name, power_loss=True)
        self.cluster.start_all()
        self.settle()
        self.run_for(2)
        self.assertEqual(len({self.replica(name).status()["digest"] for name in NAMES}), 1)


class StalledDiskTests(TrioTestCase):
    """A leader whose disk does nothing any more."""

    def test_gives_way(self) -> None:
        """Another takes over before two election timeouts are over, nobody's write fails, and the node whose disk
        stalls raises an alarm until it works again."""
        old = self.settle()
        self.cluster.nodes[old].stall_disk()
        answers = []
        for number in range(60):
            answers += [self.write(name, put(b"k", b"%s %d" % (name.encode(), number))) for name in NAMES]
            self.run_for(0.02)
        new = self.settle()
        self.assertNotEqual(new, old)
        self.run_for(0.5)
        self.assertEqual([results[0][0][0] for results in answers if results], [0] * len(answers))
        self.assertEqual(
            [self.replica(name).status()["alarms"] for name in NAMES],
            [["disk_stalled"] if name == old else [] for name in NAMES],
        )
        self.cluster.nodes[old].disk_recovers()
        self.run_for(3)
        self.assertEqual((self.cluster.leader(), self.replica(old).status()["alarms"]), (new, []))


class StoppingTests(TrioTestCase):
    """A node that is asked to stop."""

    def test_hands_over(self) -> None:
        """A leader that stops hands over: the next write is taken long before an election timeout has passed."""
        leader = self.settle()
        other = next(name for name in NAMES if name != leader)
        self.cluster.stop(leader)
        began = self.cluster.clock.seconds()
        answers = self.write(other, put(b"k", b"v"))
        self.cluster.clock.run_while(lambda: not answers, limit_seconds=10)
        self.assertEqual([results[0][0] for results in answers], [0])
        self.assertLess(self.cluster.clock.seconds() - began, self.settings.election_timeout_seconds)
        self.run_for(1)
        self.assertFalse(self.cluster.nodes[leader].is_running)

    def test_hands_over_while_clients_are_served(self) -> None:
        """Before anything is stopped leadership goes to another node; of the writes that all nodes take meanwhile none
        fails, and once it is over the others know whom to ask."""
        leader = self.cluster.leader()
        assert leader is not None
        answers: list[list[Any]] = []
        handed: list[None] = []
        self.run_in(leader, lambda: self.replica(leader).hand_over().addCallback(handed.append))
        while not handed:
            for name in NAMES:
                answers.append(self.write(name, put(b"k", b"%d" % len(answers))))
            self.run_for(0.005)
        self.assertGreater(len(answers), 10)
        for name in NAMES:
            self.assertNotIn(self.replica(name).leadership().leader, (leader, None), name)
        self.run_for(1)
        self.assertEqual([answer for answer in answers if len(answer) != 1 or isinstance(answer[0], Exception)], [])

    def test_nobody_to_hand_over_to(self) -> None:
        """A leader that hears nobody does not wait for a successor, and neither does a follower."""
        leader = self.cluster.leader()
        assert leader is not None
        handed: list[None] = []
        follower = next(name for name in NAMES if name != leader)
        self.run_in(follower, lambda: self.replica(follower).hand_over().addCallback(handed.append))
        self.assertEqual(handed, [None])
        for name in NAMES:
            if name != leader:
                self.cluster.crash(name, power_loss=False)
        self.cluster.clock.run_while(
            lambda: min(peer.ticks_since_contact for peer in self.replica(leader).driver.node.progress().values()) < 10,
            limit_seconds=5,
        )
        self.assertTrue(self.replica(leader).leadership().is_leader)
        self.run_in(leader, lambda: self.replica(leader).hand_over().addCallback(handed.append))
        self.assertEqual(handed, [None, None])

    def test_without_a_majority(self) -> None:
        """A leader that has lost the others stops all the same, and what it has taken gets its true answer."""
        leader = self.settle()
        for name in NAMES:
            if name != leader:
                self.cluster.crash(name, power_loss=False)
        answers = self.write(leader, put(b"k", b"v"))
        self.cluster.stop(leader)
        self.run_for(10)
        self.assertFalse(self.cluster.nodes[leader].is_running)
        self.assertEqual([answer.outcome for answer in answers], ["unknown"])


class DeterminismTests(TrioTestCase):
    """The states of the three nodes."""

    settings = dataclasses.replace(SlowDiskTests.settings, max_snapshots=1)

    def test_equal(self) -> None:
        """A node that was away until its log was gone gets a snapshot while writes go on, and ends up equal."""
        leader = self.settle()
        away = next(name for name in NAMES if name != leader)
        self.cluster.crash(away, power_loss=False)
        self._write_much(leader, range(300))
        self.assertGreater(self.replica(leader).driver.node.first_index, 2)
        self.cluster.start(away)
        self._write_much(leader, range(300, 600))
        self.run_for(3)
        self.assertGreater(self.cluster.network.counts["snapshots"], 0)
        statuses = [self.replica(name).status() for name in NAMES]
        self.assertEqual(len({(status["applied_index"], status["digest"]) for status in statuses}), 1)

    def _write_much(self, name: str, numbers: range) -> None:
        for number in numbers:
            self.write(name, put(b"k%d" % (number % 13), b"%4d" % number * 20))
            self.run_for(0.01)
