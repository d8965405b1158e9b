"""A node whose state differs from the majority's: it stops serving, fetches theirs, and serves again."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from raftkv.errors import BadRequest, Conflict, DigestTie, Fenced, NotLeader, OutcomeUnknown, RaftKVError
from raftkv.kvstore.commands import put
from raftkv.persistence.fence import FENCED_FILE, load_fence, store_fence
from raftkv.persistence.log import LogSettings
from raftkv.server.recovery import found_cluster, survey
from raftkv.testing.checkers import Checkers
from raftkv.testing.checkers.logs import LogRules
from raftkv.testing.cluster import ClusterSettings
from raftkv.testing.corruption import put_stray_key, put_stray_value
from tests.server.trio import TrioTestCase

#: Nothing is taken or compacted but what the tests ask for.
QUIET = ClusterSettings(note_interval=16, snapshot_interval_seconds=1000.0, disk_delay_seconds=0.001)


class FencedTestCase(TrioTestCase):
    """A cluster that compares its states at every sixteenth index."""

    settings = QUIET

    def setUp(self) -> None:
        self.written = 0
        super().setUp()

    def write_much(self, count: int = 20, *, through: str | None = None, every_seconds: float = 0.02) -> list[Any]:
        """Write through the leader, one entry each; return the answers."""
        answers = []
        for number in range(count):
            name = through or self.cluster.leader()
            if name is not None:
                self.written += 1
                answers.append(self.write(name, put(b"k%d" % (number % 7), b"%d" % self.written)))
            self.run_for(every_seconds)
        return answers

    def corrupt(self, name: str) -> None:
        """Let a node have a key that nobody wrote."""
        self.cluster.checkers.suspects.add(name)
        self.assertTrue(put_stray_key(self.replica(name).state_machine.store, b"wrong"))

    def follower(self) -> str:
        """Return some node that does not lead."""
        leader = self.settle()
        return next(name for name in self.cluster.names if name != leader)

    def is_fenced(self, name: str) -> bool:
        return self.replica(name).fence.is_fenced

    def until(self, condition: Any, what: str, limit_seconds: float = 20.0) -> None:
        self.assertTrue(self.cluster.clock.run_while(lambda: not condition(), limit_seconds=limit_seconds), what)

    def stop_lending(self) -> list[Any]:
        """Let nobody lend a state, so that a wrong one stays as it is, until something is put into the list."""
        allowed: list[Any] = []

        def guard(lend: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def guarded(document: Any) -> Any:
                if not allowed:
                    raise Conflict("not now")
                return lend(document)

            return guarded

        for other in self.cluster.names:
            life = self.cluster.nodes[other].life
            assert life is not None
            assert life.process is not None
            life.process.calls = {**life.process.calls, "lend_state": guard(life.process.calls["lend_state"])}
        return allowed

    def refusals(self, name: str) -> list[Any]:
        """Return what a write and a read of each consistency are told."""
        replica = self.replica(name)
        told: list[Any] = []
        self.run_in(name, lambda: replica.write([put(b"k", b"v")], told.append))
        for consistency in ("linearizable", "lease", "stale"):
            self.run_in(name, lambda consistency=consistency: replica.barrier(consistency, told.append))
        return told

    def digests(self) -> set[tuple[int, str]]:
        statuses = [self.replica(name).status() for name in self.cluster.names]
        return {(status["applied_index"], status["digest"]) for status in statuses}


class FollowerTests(FencedTestCase):
    """A follower whose state is wrong (B38, B40)."""

    def test_stops_serving(self) -> None:
        """It refuses writes and reads of every consistency, says why, and raises the alarm; the others do not."""
        name = self.follower()
        self.stop_lending()
        self.corrupt(name)
        self.write_much()
        self.assertEqual([type(error) for error in self.refusals(name)], [Fenced] * 4)
        self.assertEqual([error.outcome for error in self.refusals(name)], ["not_applied"] * 4)
        self.assertEqual(self.replica(name).status()["alarms"], ["fenced"])
        is_ready, reason = self.replica(name).is_ready()
        self.assertFalse(is_ready)
        self.assertIn("differed from the majority's at index", reason)
        others = [other for other in self.cluster.names if other != name]
        self.assertEqual([self.replica(other).status()["alarms"] for other in others], [[], []])
        self.assertEqual([self.replica(other).is_ready()[0] for other in others], [True, True])
        self.assertEqual(self.replica(name).counters()["states_diverged"], 1)

    def test_who_waits_is_answered(self) -> None:
        """Who waits at that moment is told at once, and gets nothing that is made of the wrong state."""
        name = self.follower()
        told: list[Any] = []
        self.cluster.network.partition([name], [other for other in self.cluster.names if other != name])
        self.refuse_later(name, told)
        self.run_for(0.1)
        self.assertEqual(told, [])
        self.run_in(name, lambda: self.replica(name).interrupt(Fenced))
        self.assertEqual([type(error) for error in told], [Fenced, Fenced])

    def refuse_later(self, name: str, told: list[Any]) -> None:
        """Let a read and, once there is no leader any more, a write wait at a node that is cut off."""
        replica = self.replica(name)
        self.run_in(name, lambda: replica.barrier("linearizable", told.append))
        self.until(lambda: replica.driver.node.leader is None, "it has missed the leader")
        self.run_in(name, lambda: replica.write([put(b"k", b"v")], told.append))

    def test_old_notes_are_forgotten(self) -> None:
        """B47: once the state has been replaced, what was noted of the former one is told to nobody."""
        leader, name = self.settle(), self.follower()
        self.stop_lending()
        self.corrupt(name)
        self.write_much()
        self.assertTrue(self.is_fenced(name))
        fence, identity = self.replica(name).fence, self.replica(leader).identity
        self.run_in(name, lambda: fence.replaced(8))
        asked = {"member": identity.node_id, "incarnation": identity.incarnation, "index": 16, "digest": ""}
        self.assertEqual(fence.compare(asked)["digest"], "")

    def test_goes_on_voting(self) -> None:
        """Its log is right: with it and one other the cluster goes on to commit."""
        name = self.follower()
        self.stop_lending()
        self.corrupt(name)
        self.write_much()
        self.assertTrue(self.is_fenced(name))
        leader = self.settle()
        third = next(other for other in self.cluster.names if other not in (name, leader))
        self.cluster.crash(third, power_loss=False)
        answers = self.write_much(20, through=leader)
        self.run_for(1)
        self.assertEqual([answer[0][0][0] for answer in answers], [0] * 20)
        self.assertEqual(self.replica(leader).status()["alarms"], [], "a state that is known to be wrong has no vote")

    def test_resync(self) -> None:
        """It fetches the state of the others, without any further write, and serves again; the alarm is gone."""
        name = self.follower()
        self.corrupt(name)
        self.write_much(17)
        self.until(lambda: self.is_fenced(name), "it is found out")
        self.assertGreater(load_fence(self.cluster.nodes[name].disk), 0)
        self.until(lambda: not self.is_fenced(name), "it is right again")
        self.run_for(1)
        self.assertEqual(len(self.digests()), 1)
        self.assertEqual(self.replica(name).status()["alarms"], [])
        self.assertEqual(self.replica(name).counters()["states_fetched"], 1)
        self.assertFalse(self.cluster.nodes[name].disk.exists(FENCED_FILE))
        self.assertEqual(self.read(name, b"k1")[0], b"16")

    def test_compared_before_it_is_served(self) -> None:
        """What was fetched, and applied again, is served only once it has been compared."""
        name = self.follower()
        others = [other for other in self.cluster.names if other != name]
        lending = self.stop_lending()
        self.corrupt(name)
        self.write_much(17)
        self.until(lambda: self.is_fenced(name), "it is found out")
        allowed = self.stop_comparing(name, others)
        lending.append(True)
        self.until(lambda: self.replica(name).counters()["states_fetched"], "it has fetched the state")
        self.run_for(3)
        self.assertFalse(self.replica(name).state_machine.is_restoring)
        self.assertEqual(len(self.digests()), 1)
        self.assertTrue(self.is_fenced(name))
        allowed.append(True)
        self.until(lambda: not self.is_fenced(name), "it has compared")

    def stop_comparing(self, name: str, others: list[str]) -> list[Any]:
        """Let a node and the others exchange no notes until something is put into the list that is returned."""
        allowed: list[Any] = []

        def guard(each: str) -> Callable[[Any], Any]:
            compare = self.replica(each).fence.compare

            def guarded(document: Any) -> Any:
                if not allowed and name in (each, document["member"]):
                    raise Conflict("not now")
                return compare(document)

            return guarded

        for each in (name, *others):
            life = self.cluster.nodes[each].life
            assert life is not None
            assert life.process is not None
            life.process.calls = {**life.process.calls, "compare_state": guard(each)}
        return allowed

    def test_overwritten(self) -> None:
        """A wrong value that was overwritten leaves nothing behind: no alarm, for the states are equal."""
        name = self.follower()
        self.write_much(7)
        self.cluster.checkers.suspects.add(name)
        store = self.replica(name).state_machine.store
        self.assertTrue(put_stray_value(store, b"wrong", random.Random(1)))
        self.write_much(20)
        self.assertEqual(self.replica(name).counters()["states_diverged"], 0)
        self.assertEqual(len(self.digests()), 1)

    def test_restart(self) -> None:
        """A restart in between changes nothing about the fence: the node serves only once it has compared (B39)."""
        name = self.follower()
        self.stop_lending()
        self.corrupt(name)
        self.write_much(17)
        self.until(lambda: self.is_fenced(name), "it is found out")
        self.run_for(0.5)
        self.cluster.network.partition([name], [other for other in self.cluster.names if other != name])
        self.cluster.crash(name, power_loss=True)
        self.cluster.start(name)
        self.run_for(2)
        self.assertEqual([type(error) for error in self.refusals(name)], [Fenced] * 4)
        self.cluster.network.heal()
        self.until(lambda: not self.is_fenced(name), "its log has made a right state of it")
        self.assertEqual(self.replica(name).counters()["states_fetched"], 0)
        self.assertFalse(self.cluster.nodes[name].disk.exists(FENCED_FILE))

    def test_relapse(self) -> None:
        """A node that differs again whatever it fetches stays fenced, and does not fetch without end."""
        name = self.follower()

        def corrupt_again(index: int) -> None:
            put_stray_key(self.replica(name).state_machine.store, b"wrong again")

        self.cluster.checkers.suspects.add(name)
        self.replica(name).state_machine.on_restored(corrupt_again)
        self.corrupt(name)
        self.write_much(17)
        self.until(lambda: self.is_fenced(name), "it is found out")
        for _ in range(60):
            self.write_much(17)
            self.assertTrue(self.is_fenced(name))
        self.assertIn(self.replica(name).counters()["states_fetched"], (2, 3))

    def test_strangers(self) -> None:
        """Who is no member, or has another data directory than the member of its name, has no say."""
        fence = self.replica(self.settle()).fence
        for claim in (
            {"member": "n9", "incarnation": "", "index": 16, "digest": "0"},
            {"member": "n2", "incarnation": "another", "index": 16, "digest": "0"},
        ):
            self.run_for(1)
            self.assertRaises(Conflict, fence.compare, claim)
        for claim in ({}, {"member": "n2", "index": True, "digest": ""}, {"member": "n2", "index": 1, "digest": 5}):
            self.assertRaises(BadRequest, fence.compare, claim)


class LeaderTests(FencedTestCase):
    """A leader whose state is wrong."""

    def test_gives_way(self) -> None:
        """Its followers outvote it: it hands leadership over, fetches their state, and serves again (B38)."""
        leader = self.settle()
        self.corrupt(leader)
        self.write_much(17)
        self.until(lambda: self.is_fenced(leader), "it is found out")
        self.until(lambda: self.cluster.leader() not in (None, leader), "another leads")
        self.until(lambda: not self.is_fenced(leader), "it is right again")
        self.run_for(1)
        self.assertEqual(len(self.digests()), 1)
        self.assertEqual(self.replica(leader).counters()["states_fetched"], 1)

    def test_writes_through_others(self) -> None:
        """Writes that others pass on to it wait for its successor rather than fail."""
        leader = self.settle()
        other = self.follower()
        self.corrupt(leader)
        answers = self.write_much(60, through=other)
        self.until(lambda: all(answers), "every write is answered")
        outcomes = {outcome[0].outcome if isinstance(outcome[0], RaftKVError) else "ok" for outcome in answers}
        self.assertIn(outcomes, ({"ok"}, {"ok", "unknown"}))

    def test_own_writes(self) -> None:
        """A write that it was about to answer has an unknown outcome, for the answer is made of the wrong state."""
        leader = self.settle()
        self.stop_lending()
        self.corrupt(leader)
        answers = self.write_much(200, through=leader, every_seconds=0.0005)
        self.run_for(1)
        errors = [type(answer[0]) for answer in answers if isinstance(answer[0], RaftKVError)]
        self.assertEqual(set(errors), {OutcomeUnknown, Fenced})
        self.assertLess(errors.count(OutcomeUnknown), 20)

    def test_lends_nothing(self) -> None:
        """It lends its state to nobody, and sends no snapshot of it; a follower does not lend at all."""
        leader = self.settle()
        other = self.follower()
        request = {
            "member": other,
            "incarnation": self.replica(other).identity.incarnation,
            "from": 0,
            "trusted": 100,
        }
        lend = self.replica(leader).calls()["lend_state"]
        self.assertEqual(lend(request), {"trusted": 0, "sent": False})
        self.assertRaises(NotLeader, self.replica(other).calls()["lend_state"], request)
        self.assertRaises(Conflict, lend, {**request, "member": "n9"})
        self.assertRaises(BadRequest, lend, {**request, "from": "1"})
        self.run_for(1)
        self.corrupt(leader)
        self.stop_lending()
        self.write_much(40)
        self.until(lambda: self.is_fenced(leader), "it is found out")
        taken: Deferred[Any] = self.replica(leader).snapshotter.take()
        self.failureResultOf(taken, Fenced)
        self.assertRaises(NotLeader, lend, request)


class LendingTests(FencedTestCase):
    """A leader that is asked for its state."""

    def test_only_what_a_majority_agrees_with(self) -> None:
        """A snapshot that is newer than the last agreement is lent only once one more note was compared, and then only
        to who was told how far it can be trusted."""
        leader, other = self.settle(), self.follower()
        self.write_much(20)
        fence = self.replica(leader).fence
        self.until(lambda: fence.agreed_index == 16, "the states were compared")
        lend = self.replica(leader).calls()["lend_state"]
        request = {"member": other, "incarnation": self.replica(other).identity.incarnation, "from": 0, "trusted": 99}
        answers: list[Any] = []

        def ask(**more: Any) -> Any:
            self.run_in(leader, lambda: answers.append(lend({**request, **more})))
            return answers[-1]

        self.assertEqual(ask(), {"trusted": 16, "sent": False})
        self.until(lambda: self.replica(leader).snapshotter.taken == 1, "a snapshot is taken")
        self.assertEqual(ask()["sent"], False)
        newest = self.replica(leader).driver.node.snapshot_index
        self.assertGreater(newest, 16)
        self.until(lambda: fence.agreed_index > newest, "a note is taken behind it")
        self.assertEqual(ask(trusted=newest), {"trusted": fence.agreed_index, "sent": False})
        self.assertEqual(ask(**{"from": newest + 1})["sent"], False)
        self.assertEqual(ask(), {"trusted": fence.agreed_index, "sent": True})
        self.run_for(1)
        self.assertEqual(len(self.digests()), 1, "who has a right state takes no other")

    def test_not_at_the_very_note(self) -> None:
        """A snapshot at the index of a note may have been taken after it, of a state that went wrong in between: it is
        lent only after the next one."""
        leader, other = self.settle(), self.follower()
        while self.replica(leader).state_machine.store.applied_index < 16:
            self.write_much(1)
        fence = self.replica(leader).fence
        self.until(lambda: fence.agreed_index == 16, "the states were compared")
        self.run_in(leader, lambda: self.replica(leader).snapshotter.take())
        self.until(lambda: self.replica(leader).driver.node.snapshot_index == 16, "a snapshot is taken")
        request = {"member": other, "incarnation": self.replica(other).identity.incarnation, "from": 0, "trusted": 99}
        answers: list[Any] = []
        self.run_in(leader, lambda: answers.append(self.replica(leader).calls()["lend_state"](request)))
        self.assertEqual(answers, [{"trusted": 16, "sent": False}])
        self.until(lambda: fence.agreed_index > 16, "a note is taken behind it")


class CompactedTests(FencedTestCase):
    """Nodes that take snapshots and compact their logs all the time."""

    settings = dataclasses.replace(
        QUIET, snapshot_interval_seconds=0.3, snapshot_threshold_bytes=256, trailing_entries=0, max_snapshots=1
    )

    def test_resync(self) -> None:
        """What it fetches is a snapshot that a majority agrees with; its own ones, made of a wrong state, are gone
        before it serves again, so that no restart brings them back (B42)."""
        name = self.follower()
        self.corrupt(name)
        self.write_much(80)
        self.until(lambda: self.replica(name).counters()["states_diverged"] == 1, "it is found out")
        self.until(lambda: not self.is_fenced(name), "it is right again")
        self.assertGreater(self.replica(name).driver.node.first_index, 1)
        self.write_much(20)
        self.run_for(1)
        self.assertEqual(len(self.digests()), 1)
        self.cluster.crash(name, power_loss=True)
        self.cluster.start(name)
        self.settle()
        self.run_for(2)
        self.assertEqual(len(self.digests()), 1)
        self.assertEqual(self.replica(name).counters()["states_diverged"], 0)

    def test_leader_too(self) -> None:
        """A leader gives way first, and then does the same."""
        leader = self.settle()
        self.corrupt(leader)
        self.write_much(80)
        self.until(lambda: not self.is_fenced(leader), "it is right again")
        self.run_for(1)
        self.assertEqual(len(self.digests()), 1)


class TieTests(FencedTestCase):
    """Two nodes that differ: nobody can tell who is right."""

    settings = dataclasses.replace(QUIET, nodes=2)

    def test_stops_writes(self) -> None:
        """Both raise the alarm, refuse writes and all reads but stale ones, and repair nothing by themselves."""
        name = self.follower()
        self.corrupt(name)
        self.write_much(17)
        self.until(lambda: all(self.replica(each).fence.is_tied for each in self.cluster.names), "it is a tie")
        for each in self.cluster.names:
            told = self.refusals(each)
            self.assertEqual([type(answer) for answer in told], [DigestTie] * 3 + [type(None)])
            self.assertEqual(self.replica(each).status()["alarms"], ["digest_tie"])
            self.assertEqual(self.replica(each).is_ready()[0], False)
        self.run_for(20)
        self.assertEqual([self.replica(each).fence.is_tied for each in self.cluster.names], [True, True])
        self.assertEqual(len(self.digests()), 2)

    def test_way_out(self) -> None:
        """A restart makes the state anew of snapshot and log; where these are right, the tie is over."""
        self.test_stops_writes()
        name = next(iter(self.cluster.checkers.suspects))
        self.cluster.crash(name, power_loss=False)
        self.cluster.start(name)
        self.until(lambda: not any(self.replica(each).fence.is_tied for each in self.cluster.names), "they agree")
        self.assertEqual(len(self.digests()), 1)
        self.settle()
        answers = self.write_much(3)
        self.assertEqual([answer[0][0][0] for answer in answers], [0] * 3)

    def test_removal(self) -> None:
        """An operator who knows which one is wrong removes it: the other is its own majority, and goes on."""
        self.test_stops_writes()
        wrong = next(iter(self.cluster.checkers.suspects))
        (right,) = (name for name in self.cluster.names if name != wrong)
        answers: list[Any] = []
        self.run_in(
            right,
            lambda: self.replica(right).change_members({"remove": [wrong], "force": True}).addBoth(answers.append),
        )
        self.until(lambda: answers, "the change is made")
        self.assertEqual([member["id"] for member in answers[0]["members"]], [right])
        self.until(lambda: not self.replica(right).fence.is_tied, "it goes on")
        self.until(lambda: self.cluster.leader() == right, "it leads")
        self.run_for(1)
        self.assertEqual(self.write_much(1, through=right)[0][0][0][0], 0)

    def test_recovery(self) -> None:
        """Or makes a cluster of one of the directory of the right one, where the other is beyond help."""
        self.test_stops_writes()
        wrong = next(iter(self.cluster.checkers.suspects))
        (right,) = (name for name in self.cluster.names if name != wrong)
        for name in self.cluster.names:
            self.cluster.crash(name, power_loss=False)
        settings = LogSettings(segment_bytes=self.settings.segment_bytes)
        disk = self.cluster.nodes[right].disk
        survivor = survey(disk, node_id=right, settings=settings)
        found_cluster(disk, survivor, raft_addr="", make_id=iter(("ab" * 16, "cd" * 16)).__next__, settings=settings)
        # It is another cluster's node from now on, with an entry that nobody saw being written.
        self.cluster.checkers = Checkers()
        self.patch(LogRules, "nothing_forged", lambda *arguments: None)
        self.cluster.start(right)
        self.until(lambda: self.cluster.leader() == right, "it leads")
        self.run_for(1)
        self.assertEqual(self.replica(right).status()["alarms"], [])
        self.assertEqual(self.write_much(1, through=right)[0][0][0][0], 0)


class ThirdTests(FencedTestCase):
    """Two of three differ while the third is away."""

    def test_third_decides(self) -> None:
        """Writes stop until the third is back, which tells who is right."""
        leader = self.settle()
        wrong, away = (name for name in self.cluster.names if name != leader)
        self.cluster.crash(away, power_loss=False)
        self.corrupt(wrong)
        self.write_much(17)
        self.until(lambda: self.replica(leader).fence.is_tied, "nobody can tell")
        self.assertFalse(self.is_fenced(wrong))
        self.cluster.start(away)
        self.until(lambda: self.is_fenced(wrong), "it is found out")
        self.until(lambda: not self.is_fenced(wrong), "it is right again")
        self.assertFalse(self.replica(leader).fence.is_tied)
        self.run_for(1)
        self.assertEqual(len(self.digests()), 1)

    def test_third_began_behind_the_note(self) -> None:
        """A third that has no note where the two differ, nor ever will, is asked for one: no write would follow."""
        leader = self.settle()
        wrong, third = (name for name in self.cluster.names if name != leader)
        self.stop_lending()
        self.keep_notes_to_itself(third)
        self.corrupt(wrong)
        self.write_much(17)
        self.until(lambda: self.replica(leader).fence.is_tied, "nobody can tell")
        self.run_in(third, self.replica(third).snapshotter.take)
        self.until(lambda: self.replica(third).driver.node.snapshot_index > 16, "a snapshot is taken")
        self.cluster.crash(third, power_loss=False)
        self.cluster.start(third)
        self.until(lambda: self.is_fenced(wrong), "it is found out")
        self.until(lambda: not self.replica(leader).fence.is_tied, "a majority agrees")

    def keep_notes_to_itself(self, name: str) -> None:
        """Let a node tell nobody what its state was, until it is started anew."""
        life = self.cluster.nodes[name].life
        assert life is not None
        assert life.process is not None

        def refuse(_: Any) -> Any:
            raise Conflict("not now")

        self.patch(self.replica(name).fence, "_tell_all", lambda *, again: None)
        life.process.calls = {**life.process.calls, "compare_state": refuse}


class SingleTests(FencedTestCase):
    """A node alone, such as one that was made a cluster of its own after a disaster."""

    settings = dataclasses.replace(QUIET, nodes=1)

    def test_own_majority(self) -> None:
        """It takes its own state for right: a fence that it inherits opens by itself."""
        leader = self.settle()
        self.write_much(5)
        store_fence(self.cluster.nodes[leader].disk, 3)
        self.cluster.crash(leader, power_loss=False)
        self.cluster.start(leader)
        self.assertTrue(self.is_fenced(leader))
        self.until(lambda: not self.is_fenced(leader), "it trusts itself")
