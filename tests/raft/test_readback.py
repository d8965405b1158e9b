"""Entries that are on the disk only: who gets them, how many at once, and what may happen meanwhile."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import InvariantViolation, Overloaded
from raftkv.raft.log import ENTRY_OVERHEAD_BYTES, Log
from raftkv.raft.messages import AppendEntries, AppendEntriesResponse, Entry, InstallSnapshot, SnapshotMeta
from raftkv.raft.node import RaftNode
from raftkv.raft.progress import ProgressState
from raftkv.raft.ready import EntriesWanted, Role
from raftkv.raft.terms import OnDisk, TermRuns
from tests.raft.cluster import Cluster, configuration, entry, log_of, make_node


class TermRunsTests(SynchronousTestCase):
    """The terms of a log in little memory."""

    def test_against_plain_twin(self) -> None:
        """After any changes every index has the term that a plain list gives it."""
        chance = random.Random(5)
        for _ in range(300):
            runs, plain, first, term = TermRuns(), {0: 0}, 0, 1
            for _ in range(40):
                last = max(plain)
                what = chance.random()
                if what < 0.7:
                    term += chance.random() < 0.3
                    runs.append(term)
                    plain[last + 1] = term
                elif what < 0.8 and last > first:
                    index = chance.randint(first + 1, last)
                    runs.truncate_from(index)
                    plain = {each: plain[each] for each in plain if each < index}
                    term += 1
                elif what < 0.9 and last > first:
                    first = chance.randint(first + 1, last)
                    runs.forget_through(first)
                    plain = {each: plain[each] for each in plain if each >= first}
                elif what > 0.97:
                    first, term = last + 5, term + 1
                    runs.begin_behind(first, term)
                    plain = {first: term}
                for each in (runs, runs.copy()):
                    self.assertEqual(
                        [each.term_at(index) for index in range(max(plain) + 3)],
                        [plain.get(index) for index in range(max(plain) + 3)],
                    )
                    self.assertEqual((each.previous_index, each.last_index), (first, max(plain)))
                    self.assertEqual(each.last_term, plain[max(plain)])

    def test_little_memory(self) -> None:
        """A hundred thousand entries of three terms take three runs."""
        runs = TermRuns()
        for index in range(100_000):
            runs.append(1 + index // 40_000)
        self.assertEqual(len(runs._firsts), 3)


class CacheTests(SynchronousTestCase):
    """What stays in memory."""

    def test_bounded(self) -> None:
        """Whatever is appended, what is in memory of stable entries is bounded by bytes, and all terms are known."""
        log = Log(cache_bytes=1000)
        for index in range(1, 5001):
            log.append([entry(index, 1 + index // 1000, b"x" * 10)])
            log.take_unwritten()
            log.write_pending(index)
            log.write_done(index)
            log.trim(index)
            size = (10 + ENTRY_OVERHEAD_BYTES) * (log.last_index + 1 - log.cached_index)
            self.assertLess(size, 1000 + 1000 // 16 + 100)
        self.assertGreater(log.last_index - log.cached_index, 20)
        self.assertEqual([log.term_at(index) for index in (1, 999, 1000, 4999, 5000)], [1, 1, 2, 5, 6])
        self.assertRaises(InvariantViolation, log.slice, 1, 5, 100)
        self.assertEqual(log.slice(5000, 5001, 1)[0].index, 5000)

    def test_what_has_to_stay(self) -> None:
        """What is not on our disk stays in memory, and so does what nobody said that nobody needs."""
        log = Log(cache_bytes=1)
        log.append(log_of(1, 1, 1, 1))
        log.trim(4)
        self.assertEqual(log.cached_index, 1)
        log.take_unwritten()
        log.write_pending(1)
        log.append([entry(5, 1)])
        log.write_done(1)
        log.trim(2)
        self.assertEqual(log.cached_index, 3)
        log.trim(5)
        self.assertEqual((log.cached_index, log.stable_index), (5, 4))
        self.assertEqual([one.index for one in log.take_unwritten()], [5])

    def test_truncated_in_front_of_the_cache(self) -> None:
        """A conflict before the first entry in memory leaves none there, and the log goes on from it."""
        log = Log(entries=log_of(1, 1, 1, 1), cache_bytes=1)
        log.trim(4)
        self.assertEqual(log.cached_index, 5)
        log.truncate_from(3)
        self.assertEqual((log.last_index, log.cached_index, log.stable_index), (2, 3, 2))
        log.append([entry(3, 2), entry(4, 2)])
        self.assertEqual([one.index for one in log.slice(3, 9, 1000)], [3, 4])
        self.assertEqual([one.index for one in log.take_unwritten()], [3, 4])
        self.assertEqual([log.term_at(index) for index in range(1, 6)], [1, 1, 2, 2, None])

    def test_compacted_beyond_the_cache(self) -> None:
        """Compaction works alike in front of the cache and within it."""
        log = Log(entries=log_of(1, 1, 2, 2, 3), cache_bytes=2 * (3 + ENTRY_OVERHEAD_BYTES), snapshot_index=5)
        log.trim(5)
        self.assertEqual(log.cached_index, 4)
        log.compact(2)
        self.assertEqual((log.first_index, log.cached_index, log.term_at(2)), (3, 4, 1))
        log.compact(4)
        self.assertEqual((log.first_index, log.cached_index, log.last_index), (5, 5, 5))
        log.compact(5)
        self.assertEqual((log.first_index, log.cached_index, log.last_term), (6, 6, 3))


class FollowerTests(SynchronousTestCase):
    """A follower that is far behind a leader with next to no memory."""

    def setUp(self) -> None:
        self.cluster = Cluster("a", "b", "c", election_ticks=5, log_cache_bytes=1, max_append_bytes=200)
        self.cluster.elect("a")
        self.cluster.isolate("c")
        for number in range(30):
            self.cluster.propose("a", b"%03d" % number)
        self.cluster.settle()
        self.cluster.heal()

    def questions(self) -> list[EntriesWanted]:
        return [wanted for wanted in self.cluster.servers["a"].questions if wanted.peer == "c"]

    def until_asked(self) -> EntriesWanted:
        """Let things happen until entries for the follower are asked for."""
        cluster = self.cluster
        for _ in range(1000):
            if self.questions():
                return self.questions()[0]
            if cluster.network:
                cluster.deliver(cluster.network.pop(0))
            elif busy := [name for name in cluster.running if cluster.servers[name].writes]:
                cluster.finish_write(busy[0])
            elif asking := [name for name in cluster.running if cluster.servers[name].questions]:
                cluster.read_back(asking[0])
            else:
                cluster.tick("a")
        raise AssertionError("nothing was asked for")

    def test_served_from_the_disk(self) -> None:
        """It gets everything without a snapshot, in portions, one question at a time."""
        sizes: list[int] = []

        def heard(name: str, ready: object) -> None:
            self.assertLessEqual(len(self.questions()), 1)
            sizes.extend(len(m.entries) for m in self.cluster.network if isinstance(m, AppendEntries) and m.to == "c")

        self.cluster.on_ready = heard
        self.cluster.tick("a", count=2)
        self.cluster.settle()
        self.assertEqual(self.cluster["c"].last_applied, self.cluster["a"].last_index)
        self.assertEqual(self.cluster["c"].snapshot_index, 0)
        self.assertLessEqual(max(sizes) * (3 + ENTRY_OVERHEAD_BYTES), 200)

    def test_nothing_in_memory(self) -> None:
        """What it needs does not come back into the leader's memory for good."""
        self.cluster.tick("a", count=2)
        self.cluster.settle()
        for name in "abc":
            log = self.cluster[name]._state.log
            self.assertEqual(log.cached_index, log.last_index + 1)

    def test_logs_part_is_found_without_the_disk(self) -> None:
        """Where the logs part is asked with empty messages: nothing is read that would be refused."""
        self.cluster.network.clear()
        wanted = self.until_asked()
        self.assertEqual(wanted.start, self.cluster["a"].progress()["c"].match_index + 1)

    def test_answer_to_an_earlier_leadership(self) -> None:
        """What was read for a leadership that is over is not sent, though the same server leads again."""
        wanted = self.until_asked()
        cluster = self.cluster
        term = cluster["a"].current_term
        lost = AppendEntriesResponse(term=term + 1, sender="b", to="a", success=False)
        cluster.do("a", lambda node: node.step(lost))
        self.assertIs(cluster["a"].role, Role.FOLLOWER)
        cluster.servers["a"].questions.clear()
        cluster.network.clear()
        self.elect_again()
        again = self.until_asked()
        cluster.network.clear()
        stale = [entry(wanted.start, wanted.start, b"stale")]
        cluster.do("a", lambda node: node.entries_read(wanted, stale))
        self.assertNotEqual(again, wanted)
        self.assertEqual([m for m in cluster.network if isinstance(m, AppendEntries) and m.entries], [])
        cluster.settle()
        self.assertEqual(cluster["c"].last_applied, cluster["a"].last_index)

    def elect_again(self) -> None:
        cluster = self.cluster
        for other in "bc":
            cluster.tick(other, count=10)
            cluster.network.clear()
        cluster.do("a", RaftNode.campaign)
        for _ in range(1000):
            if cluster["a"].role is Role.LEADER:
                return
            if cluster.network:
                cluster.deliver(cluster.network.pop(0))
            else:
                cluster.finish_write(next(name for name in cluster.running if cluster.servers[name].writes))

    def test_compacted_meanwhile(self) -> None:
        """Entries that are gone when the disk comes to read them are replaced by a snapshot."""
        for keep in (0, 1000):  # the core may hear of the compaction later than the disk
            self.setUp()
            wanted = self.until_asked()
            self.cluster.servers["a"].questions.remove(wanted)
            self.cluster.take_snapshot("a", keep=keep)
            self.cluster.do("a", lambda node, wanted=wanted: node.entries_read(wanted, []))
            self.assertIs(self.cluster["a"].progress()["c"].state, ProgressState.SNAPSHOT)
            self.cluster.settle()
            self.cluster.tick("a", count=2)
            self.cluster.settle()
            self.assertEqual(self.cluster["c"].last_applied, self.cluster["a"].last_index)
            self.assertGreater(self.cluster["c"].snapshot_index, 0)

    def test_gone_without_a_snapshot(self) -> None:
        """Entries that no snapshot stands for must be there: a leader that cannot read its log stops (B51)."""
        wanted = self.until_asked()
        self.assertRaises(InvariantViolation, self.cluster["a"].entries_read, wanted, [])

    def test_wrong_entries(self) -> None:
        """Entries of other terms than our log's are never sent."""
        wanted = self.until_asked()
        wrong = [entry(wanted.start, 999)]
        self.assertRaises(InvariantViolation, self.cluster["a"].entries_read, wanted, wrong)

    def test_acknowledged_meanwhile(self) -> None:
        """A follower that has got the entries otherwise is not sent them once more."""
        wanted = self.until_asked()
        term, found = self.cluster["a"].current_term, self.cluster.servers["a"].disk.read(wanted)
        self.cluster.network.clear()
        have = AppendEntriesResponse(term=term, sender="c", to="a", success=True, match_index=wanted.start + 1)
        self.cluster["a"].step(have)
        self.cluster["a"].entries_read(wanted, found)
        sent = [m for m in self.cluster["a"].take_ready().messages if isinstance(m, AppendEntries) and m.to == "c"]
        self.assertEqual([m for m in sent if m.entries], [])

    def test_heartbeats_while_reading(self) -> None:
        """A disk that is slow to read keeps no heartbeat, and no other follower, waiting."""
        self.until_asked()
        cluster = self.cluster
        made = cluster.propose("a", b"more")
        questions, cluster.servers["a"].questions = (
            cluster.servers["a"].questions,
            type(cluster.servers["a"].questions)(),
        )
        cluster.settle()
        self.assertGreaterEqual(cluster["b"].last_applied, made.index - 1)
        cluster.servers["a"].questions = questions
        cluster.settle()
        cluster.tick("a", count=2)
        cluster.settle()
        self.assertEqual(cluster["c"].last_applied, cluster["a"].last_index)


class StateMachineTests(SynchronousTestCase):
    """Entries that were not loaded are applied from the disk."""

    def start(self, count: int, **settings: int) -> RaftNode:
        """Start a node alone on a log of so many entries, of which the last one is in memory."""
        cluster = self.cluster = Cluster("a", members=configuration("a"), log_cache_bytes=1, **settings)
        cluster.servers["a"].disk.entries = list(log_of(*[1] * count))
        cluster.servers["a"].disk.hard_state = type(cluster.servers["a"].disk.hard_state)(term=1)
        cluster.restart("a")
        return cluster["a"]

    def test_all_are_applied(self) -> None:
        """After a start everything is applied in order, in bounded portions, one question at a time."""
        node = self.start(50, max_committed_bytes=400)
        self.assertEqual((node.first_index, node.last_index, node.term_at(1)), (1, 50, 1))
        portions: list[int] = []
        self.cluster.on_ready = lambda name, ready: portions.append(len(ready.committed))
        self.cluster.elect("a")
        self.assertEqual(len(self.cluster.servers["a"].applied), 51)
        self.assertLessEqual(max(portions) * (3 + ENTRY_OVERHEAD_BYTES), 400)
        self.assertEqual(len(self.cluster.servers["a"].questions), 0)

    def test_held(self) -> None:
        """While the state machine takes nothing, nothing is handed out and nothing asks for a turn."""
        node = self.start(5)
        node.may_apply(False)
        self.cluster.do("a", RaftNode.campaign)
        self.cluster.finish_writes("a")
        self.assertEqual((node.commit_index, node.last_applied), (6, 0))
        self.assertFalse(node.has_ready())
        node.may_apply(True)
        self.assertTrue(node.has_ready())
        self.cluster.drain("a")
        self.cluster.settle()
        self.assertEqual(node.last_applied, 6)

    def test_snapshot_meanwhile(self) -> None:
        """What was read for a state that a snapshot has replaced is not applied to the new one."""
        for comes_late in (True, False):
            self.snapshot_meanwhile(comes_late=comes_late)

    def snapshot_meanwhile(self, *, comes_late: bool) -> None:
        terms = TermRuns()
        for _ in range(5):
            terms.append(1)
        node = make_node("b", term=1, on_disk=OnDisk(terms=terms), log_cache_bytes=1)
        node.step(self.append(5, 1, commit=3))
        (wanted,) = node.take_ready().entries_wanted
        self.assertEqual((wanted.start, wanted.stop), (1, 4))
        meta = SnapshotMeta(index=50, term=2, configuration=configuration("a", "b", "c"), configuration_index=0)
        if not comes_late:
            node.entries_read(wanted, log_of(1, 1, 1))
            node.may_apply(False)
        node.step(InstallSnapshot(term=2, sender="a", to="b", snapshot=meta))
        node.take_ready()
        if comes_late:
            node.entries_read(wanted, log_of(1, 1, 1))
        node.may_apply(False)
        node.step(self.append(50, 2, entry(51, 2), entry(52, 2), commit=52))
        self.assertEqual(node.take_ready().committed, ())
        node.advance(node._state.durability.last_write_id)
        node.take_ready()
        self.assertEqual(node._state.log.cached_index, 53)
        node.may_apply(True)
        ready = node.take_ready()
        self.assertEqual((ready.committed, ready.entries_wanted[0].start), ((), 51))
        node.entries_read(ready.entries_wanted[0], [entry(51, 2), entry(52, 2)])
        self.assertEqual([one.index for one in node.take_ready().committed], [51, 52])

    def test_snapshot_of_a_conflicting_log(self) -> None:
        """What follows a snapshot that replaced a longer log is applied from memory until our disk has it."""
        node = make_node("b", term=1, entries=log_of(*[1] * 9), log_cache_bytes=1)
        meta = SnapshotMeta(index=3, term=2, configuration=configuration("a", "b", "c"), configuration_index=0)
        node.step(InstallSnapshot(term=2, sender="a", to="b", snapshot=meta))
        node.may_apply(False)
        node.take_ready()
        node.step(self.append(3, 2, entry(4, 2), entry(5, 2), commit=5))
        node.take_ready()
        node.may_apply(True)
        ready = node.take_ready()
        self.assertEqual(([one.index for one in ready.committed], ready.entries_wanted), ([4, 5], ()))

    def append(self, prev_log_index: int, prev_log_term: int, *added: Entry, commit: int) -> AppendEntries:
        """Make a message of the leader of a term in which its newest entries are."""
        return AppendEntries(
            term=added[-1].term if added else prev_log_term,
            sender="a",
            to="b",
            prev_log_index=prev_log_index,
            prev_log_term=prev_log_term,
            leader_commit=commit,
            entries=added,
        )

    def test_not_on_the_disk(self) -> None:
        """A committed entry that the disk does not give back stops the node: it would be lost otherwise (B51)."""
        node = self.start(5)
        self.cluster.do("a", RaftNode.campaign)
        self.cluster.finish_writes("a")
        wanted = self.cluster.servers["a"].questions[0]
        self.assertEqual((wanted.peer, wanted.start), (None, 1))
        self.assertRaises(InvariantViolation, node.entries_read, wanted, [])

    def test_other_term(self) -> None:
        """An entry of another term than our log's is never applied."""
        node = self.start(5)
        self.cluster.do("a", RaftNode.campaign)
        self.cluster.finish_writes("a")
        wanted = self.cluster.servers["a"].questions[0]
        self.assertRaises(InvariantViolation, node.entries_read, wanted, [entry(1, 7)])


class UncommittedTests(SynchronousTestCase):
    """A leader's bound on what is not committed yet."""

    def test_counts_the_same_whatever_is_cached(self) -> None:
        """What was counted at its proposal is taken off at its commitment, so that the bound neither leaks nor lies."""
        cluster = Cluster("a", "b", "c", log_cache_bytes=1, max_uncommitted_bytes=1000)
        cluster.elect("a")
        for _ in range(20):
            for _ in range(5):
                cluster.propose("a", b"x" * 100)
            cluster.settle()
        self.assertEqual(cluster["a"]._leadership._uncommitted_bytes, 0)  # type: ignore[union-attr]
        cluster.isolate("a")
        for _ in range(7):
            cluster.propose("a", b"x" * 100)
        self.assertRaises(Overloaded, cluster.propose, "a", b"x" * 100)

    def test_restart(self) -> None:
        """A new leader whose old entries are on the disk only counts none of them, neither now nor later."""
        cluster = Cluster("a", "b", "c", log_cache_bytes=1)
        cluster.elect("a")
        for number in range(10):
            cluster.propose("a", b"%d" % number)
        cluster.settle()
        for name in "abc":
            cluster.restart(name)
        cluster.elect("b")
        self.assertEqual(cluster["b"]._leadership._uncommitted_bytes, 0)  # type: ignore[union-attr]


class BoundsTests(SynchronousTestCase):
    """A follower that answers nothing costs the leader no memory."""

    def test_silent_follower(self) -> None:
        """What is under way to it is bounded in messages and bytes, while the others commit without it."""
        cluster = Cluster("a", "b", "c", max_inflight_messages=8, max_inflight_bytes=5000, log_cache_bytes=2000)
        cluster.elect("a")
        cluster.cut = {("c", "a")}
        sent: list[AppendEntries] = []

        def heard(name: str, ready: object) -> None:
            sent.extend(m for m in getattr(ready, "messages", ()) if isinstance(m, AppendEntries) and m.to == "c")

        cluster.on_ready = heard
        for _ in range(300):
            cluster.propose("a", b"x" * 100)
            cluster.settle(disks=("a", "b"))
        log = cluster["a"]._state.log
        self.assertEqual(cluster["a"].commit_index, log.last_index)
        self.assertLessEqual(len([m for m in sent if m.entries]), 8)
        self.assertLessEqual(sum(len(one.payload) for m in sent for one in m.entries), 5000 + 132)
        self.assertLess(log.last_index - log.cached_index, 20)

    def test_restarted_node_knows_all(self) -> None:
        """A node that has loaded no entry knows the terms and the configurations of its log all the same (B21)."""
        cluster = Cluster("a", "b", "c", "d", members=configuration("a", "b", "c"), log_cache_bytes=1)
        cluster.elect("a")
        cluster.do("a", lambda node: node.propose_configuration(configuration("a", "b", "c", learners="d")))
        cluster.propose("a", b"more")
        cluster.settle()
        before = cluster["a"]
        cluster.restart("a")
        after = cluster["a"]
        self.assertEqual(after.configuration, before.configuration)
        self.assertEqual(after.configuration_index, before.configuration_index)
        self.assertEqual((after.last_index, after.term_at(2)), (before.last_index, before.term_at(2)))
        self.assertEqual(make_node(entries=log_of(1, 1), term=1).last_index, 2)
