"""One seed, one story: a cluster, its clients and its misfortunes, drawn from a number and judged.

First everything may go wrong, and only safety is demanded, after every event. Then everything is mended, and the
cluster has to make progress. In the end what the clients saw is judged. The same seed gives the same story, event for
event, in any process.
"""

from __future__ import annotations

import dataclasses
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from raftkv.raft.configuration import Configuration, Member
from raftkv.server.assembly import assemble
from raftkv.testing.checkers import Violation
from raftkv.testing.churn import Churn, draw_churn
from raftkv.testing.cluster import ClusterSettings, Composition, SimulatedCluster
from raftkv.testing.corruption import Corruption, draw_corruption
from raftkv.testing.errands import MIXES, name_of_errand
from raftkv.testing.excerpt import WHOLE, Excerpt
from raftkv.testing.faults import Faults, draw_faults, draw_network
from raftkv.testing.history import History, OperationOutcome
from raftkv.testing.judging import judge, judge_states
from raftkv.testing.losses import Losses, draw_losses
from raftkv.testing.queries import Query, is_of_the_past
from raftkv.testing.scarcity import Scarcity, draw_scarcity, with_reserve
from raftkv.testing.succession import Succession
from raftkv.testing.watching import Watchers, draw_watchers
from raftkv.testing.workload import Workload, WorkloadSettings

STORY_SECONDS = 30.0  #: of faults and clients
LIVENESS_SECONDS = 20.0  #: within which a mended cluster must agree, and answer
LASTING_SECONDS = 4.0  #: that a fault lasts which the cluster has to live with, before it is judged
STEADY_SECONDS = 2.5  #: that its leader must stay from then on


#: What stays broken for a while when everything else is mended; mostly nothing.
_LASTING: Final = ("deaf leader", "mute leader", "bridge", "bridge", *[""] * 6)

#: A few small entries in each message, few messages under way, few entries applied at once, some writes refused.
_NARROW_BOUNDS: Final = {
    "max_append_bytes": 200,
    "max_inflight_messages": 3,
    "max_inflight_bytes": 500,
    "max_committed_bytes": 300,
    "max_uncommitted_bytes": 2000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one seed.

    :ivar failure: what went wrong, in one line; empty where nothing did.
    :ivar details: the same at length.
    :ivar digest: checksum of the whole story.
    :ivar simulated_seconds: how long it was; ``cpu_seconds`` is what it took to tell.
    :ivar operations: of the clients, by outcome.
    :ivar faults: how often each kind was begun; likewise ``network`` and ``disks`` for what happened to messages and
        writes, and to nodes because of their disks.
    :ivar situations: checksums of the situations that the cluster was in; likewise ``steps`` between them.
    :ivar story: the faults, the changes of members and the lost disks, one after the other: number, time and kind.
    :ivar lines: everything that happened, where it was asked for.
    """

    seed: int
    failure: str = ""
    details: str = ""
    digest: str
    simulated_seconds: float
    cpu_seconds: float
    events: int
    terms: int
    entries: int
    operations: dict[str, int]
    faults: dict[str, int]
    network: dict[str, int]
    disks: dict[str, int]
    situations: frozenset[int]
    steps: frozenset[int]
    story: list[tuple[int, float, str]]
    lines: list[str] = field(default_factory=list)


def run_seed(
    seed: int, compose: Composition = assemble, *, keep_trace: bool = False, excerpt: Excerpt = WHOLE
) -> Outcome:
    """Tell the story of one seed."""
    return Simulation(seed, compose, keep_trace=keep_trace, excerpt=excerpt).run()


class Simulation:
    """One story.

    :param compose: puts a node together.
    :param keep_trace: whether to keep every line of the story.
    :param excerpt: how much of it is told.
    """

    def __init__(
        self, seed: int, compose: Composition = assemble, *, keep_trace: bool = False, excerpt: Excerpt = WHOLE
    ) -> None:
        chance = random.Random(f"raftkv {seed}")
        churning = random.Random(f"raftkv churn {seed}")
        of_reads = random.Random(f"reads {seed}")
        corrupting = random.Random(f"corruption {seed}")
        erring = random.Random(f"raftkv errands {seed}")
        spares, churn = draw_churn(churning)
        losing = random.Random(f"raftkv losses {seed}")
        losses = draw_losses(losing, members_change=spares > 0)
        # Who has lost its disk has no say in which state is right, so that a wrong one might not be outvoted.
        members_change = bool(churn.weights or losses.pause_seconds)
        note_interval, corruption = draw_corruption(corrupting, members_change=members_change)
        depriving = random.Random(f"raftkv scarcity {seed}")
        scarcity = draw_scarcity(depriving, states_change=note_interval > 0, members_change=members_change)
        self.seed = seed
        self.story_seconds = STORY_SECONDS if excerpt.seconds is None else excerpt.seconds
        self.cluster = SimulatedCluster(
            settings=draw_notes(
                note_interval,
                replace(
                    with_reserve(draw_leases(of_reads, draw_cluster(chance)), scarcity),
                    spares=spares,
                    asks_first=losses.asks_first,
                    log_cache_bytes=draw_cache(random.Random(f"raftkv cache {seed}")),
                    **draw_history(erring),
                ),
            ),
            network_settings=draw_network(chance),
            seed=chance.getrandbits(64),
            compose=compose,
            keep_trace=keep_trace,
        )
        self.history = History()
        faults, workload = draw_faults(chance), draw_errands(erring, draw_workload(chance))
        if excerpt.clients is not None:
            workload = replace(workload, clients=min(excerpt.clients, workload.clients))
        self.workload = Workload(
            network=self.cluster.network,
            history=self.history,
            random=random.Random(chance.getrandbits(64)),
            nodes=self.cluster.names,
            settings=draw_reads(of_reads, workload),
            random_of_reads=of_reads,
            random_of_errands=erring,
        )
        self.workload.is_excused = self._is_excused
        self.workload.known.past_stays_right = not corruption.pause_seconds
        self.judged: dict[str, int] = {}
        self.faults = Faults(
            self.cluster,
            random=random.Random(chance.getrandbits(64)),
            settings=faults,
            burst=self.workload.burst,
            glance=self.workload.glance,
            without=excerpt.without,
        )
        self.lasting = _LASTING[random.Random(f"raftkv lasting {seed}").randrange(len(_LASTING))] if not spares else ""
        may_go_round = not (
            self.lasting or spares or corruption.pause_seconds or not self.workload.settings.errand_share
        )
        self.is_succession = may_go_round and random.Random(f"raftkv succession {seed}").random() < 0.2
        self.churn = Churn(self.cluster, random=churning, settings=churn, without=excerpt.without)
        self.losses = Losses(
            self.cluster, random=losing, settings=losses, burst=self.workload.burst, without=excerpt.without
        )
        self.corruption = Corruption(self.cluster, random=corrupting, settings=corruption, without=excerpt.without)
        self.scarcity = Scarcity(self.cluster, random=depriving, settings=scarcity, without=excerpt.without)
        watching = random.Random(f"raftkv watchers {seed}")
        self.watchers = Watchers(
            network=self.cluster.network,
            nodes=self.cluster.names,
            random=watching,
            settings=draw_watchers(watching),
        )
        if self.watchers.settings.watchers:
            self.cluster.on_applied.append(self.watchers.truth.applied)
        self._observer = _LoggedFailures(alarms_count=not corruption.pause_seconds)

    def run(self) -> Outcome:
        """Tell the story and judge it."""
        began = time.process_time()
        failure = details = ""
        globalLogPublisher.addObserver(self._observer)
        try:
            self._tell()
        except Exception as error:
            failure = f"{type(error).__name__}: {error}".splitlines()[0]
            details = traceback.format_exc()
        finally:
            globalLogPublisher.removeObserver(self._observer)
        return self._outcome(failure, details, time.process_time() - began)

    def _tell(self) -> None:
        cluster = self.cluster
        self.losses.start_all()
        self.workload.start()
        self.watchers.start()
        self.faults.start()
        self.churn.start()
        self.corruption.start()
        self.scarcity.start()
        cluster.clock.run_until(self.story_seconds)
        self.losses.end()
        self.scarcity.end()
        self.faults.end_all()
        self.churn.end()
        self.corruption.end()
        if self.churn.counts:
            # What nodes were asked for goes on until its time is over.
            cluster.clock.run_until(self.story_seconds + 2 * cluster.settings.request_timeout_seconds)
        self._demand(self._is_whole, "the members are there, and nobody is on the way")
        self._demand(lambda: self.corruption.is_undone, "every node holds the state of the majority")
        self._demand(self._is_settled, "the mended cluster agrees on a leader and a log")
        self.watchers.calm_down()
        self.workload.stop()
        self._demand(lambda: self.workload.is_idle, "the clients' last operations return")
        self._live_with_a_fault()
        if self.is_succession:
            Succession(cluster, self.workload.clients[0], self._demand).run()
        self._everybody_answers()
        self._demand(self._nothing_is_owed, "every write that a node took is answered")
        self._demand(self._nothing_is_held, "leases that nobody keeps alive end, and with them locks")
        self._demand(lambda: self.watchers.know_everything, "every watcher is told everything")
        self.watchers.stop()
        self._demand(self._is_settled, "the cluster is at rest")
        if self.workload.served_by_fenced:
            raise Violation("fenced node serves", self.workload.served_by_fenced[0])
        self.judged = judge(self.corruption.excuse(self.history), cluster)
        judge_states(cluster)
        if self._observer.events:
            raise Violation("logged failure", "; ".join(map(describe_event, self._observer.events)))

    def _is_excused(self, name: str, index: int, query: Query | None) -> bool:
        checkers = self.cluster.checkers
        is_of_wrong_past = query is not None and is_of_the_past(query) and not checkers.states.past_is_right
        return is_of_wrong_past or checkers.states.is_excused(name, index)

    def _live_with_a_fault(self) -> None:
        """Let something stay broken: whoever else is a majority must have a leader that stays, and commits (B6).

        It must stay while nobody writes, too: a log that grows would keep out some that must not stand for election.
        Behind a bridge the leader keeps a majority, and nobody has a reason to take its place.
        """
        cluster = self.cluster
        if not self.lasting or cluster.excuses.out:
            return
        # Whose disk stalled until now may still hand over: a stall is over only after an election timeout without one.
        cluster.clock.run_until(cluster.clock.seconds() + 2 * cluster.settings.election_timeout_seconds)
        self._demand(lambda: cluster.leader() is not None, "a mended cluster keeps a leader")
        leader = cluster.leader() or ""
        others = [name for name in cluster.names if name != leader]
        cluster.trace.note(f"lasting {self.lasting}")
        for other in others:
            if self.lasting == "deaf leader":
                cluster.network.block(other, leader)
            elif self.lasting == "mute leader":
                cluster.network.block(leader, other)
        before = self._latest_term()
        if self.lasting == "bridge":  # one half of the others hears everybody
            cluster.network.partition([leader, *others[: len(others) // 2]], others)
        else:
            cluster.clock.run_until(cluster.clock.seconds() + LASTING_SECONDS)
            before = self._latest_term()
        cluster.clock.run_until(cluster.clock.seconds() + STEADY_SECONDS)
        if self._latest_term() != before:
            raise Violation("liveness", f"no leader stays, with a {self.lasting}: {self._describe()}")
        self._demand(lambda: cluster.leader() is not None, f"with a {self.lasting} somebody leads")
        wanted = self._latest_commit() + 1
        self.workload.write_to(cluster.leader() or leader)
        self._demand(lambda: self._latest_commit() >= wanted, f"with a {self.lasting} the leader commits")
        self._demand(lambda: self.workload.is_idle, "a single write returns")
        cluster.network.heal()
        self._demand(self._is_settled, "the cluster whose last link was mended agrees on a leader and a log")

    def _latest_term(self) -> int:
        return max(node.raft.current_term for node in self.cluster.nodes.values() if node.raft is not None)

    def _latest_commit(self) -> int:
        return max(node.raft.commit_index for node in self.cluster.nodes.values() if node.raft is not None)

    # -- liveness ------------------------------------------------------------------------------------------------

    def _demand(self, condition: Callable[[], bool], what: str) -> None:
        if not self.cluster.clock.run_while(lambda: not condition(), limit_seconds=LIVENESS_SECONDS):
            raise Violation("liveness", f"not within {LIVENESS_SECONDS:g} seconds: {what}; {self._describe()}")

    def _is_whole(self) -> bool:
        """Tell whether no change of the members is under way, promotions included; whoever lost a disk votes again."""
        leader = self.cluster.leader()
        first = self.cluster.nodes[leader].raft if leader is not None else None
        if first is None:
            return False
        configuration, index = first.committed_configuration()
        lost = {name for name, node in self.cluster.nodes.items() if node.was_wiped}
        if lost - configuration.voters and not self.churn.counts:
            return False
        is_final = index == first.configuration_index and not configuration.is_joint and not configuration.promoting
        out = self.cluster.excuses.out
        return is_final and all(name in out or self._is_there(member) for name, member in configuration.members.items())

    def _is_there(self, member: Member) -> bool:
        """Tell whether the node that a configuration means is running, and not one with another disk in its place."""
        node = self.cluster.nodes[member.id]
        return node.raft is not None and member.incarnation in ("", node.incarnation)

    def _is_settled(self) -> bool:
        leader = self.cluster.leader()
        first = self.cluster.nodes[leader].raft if leader is not None else None
        if first is None:
            return False
        for name in first.configuration.members:
            node = self.cluster.nodes[name]
            raft, life = node.raft, node.life
            if node.name in self.cluster.excuses.out:
                continue
            if raft is None or life is None or life.replica is None or raft.disk_lacks_room:
                return False
            if (raft.leader, raft.current_term, raft.last_index) != (leader, first.current_term, first.last_index):
                return False
            if not raft.commit_index == life.replica.state_machine.store.applied_index == first.last_index:
                return False
        return True

    def _everybody_answers(self) -> None:
        """Every node takes a write, and every key can be read through every node."""
        client = self.workload.clients[0]
        under_way: list[object] = []

        def finished() -> None:
            under_way.pop()

        begun = len(self.history)
        for name in sorted(self.cluster.committed_configuration().members):
            if name in self.cluster.excuses.out:
                continue
            under_way.append(name)
            client.operate("put", b"k0", -1, finished, nodes=[name])
            self._demand(lambda: not under_way, f"{name} takes a write")
            for number in range(self.workload.settings.keys):
                under_way.append(name)
                client.operate("get", b"k%d" % number, -1, finished, nodes=[name])
            self._demand(lambda: not under_way, f"{name} answers reads")
        for operation in list(self.history)[begun:]:
            if operation.outcome is not OperationOutcome.OK and not self.cluster.network.settings.loss:
                raise Violation("liveness", f"an operation of a mended cluster failed: {operation}")

    def _nothing_is_owed(self) -> bool:
        """Tell whether every write that a node took has been answered; a broken connection takes a while to notice."""
        replicas = [node.life.replica for node in self.cluster.nodes.values() if node.life is not None]
        return all(replica is not None and not replica.counters()["pending_commands"] for replica in replicas)

    def _nothing_is_held(self) -> bool:
        """Tell whether no lease is left, and nobody holds a lock or waits for one."""
        plain = self.cluster.replay.plain
        return not plain.leases and not any(plain.queues.values())

    def _describe(self) -> str:
        parts = []
        for name, node in self.cluster.nodes.items():
            raft, life = node.raft, node.life
            if raft is None or life is None or life.replica is None:
                parts.append(f"{name} is down")
                continue
            applied = life.replica.state_machine.store.applied_index
            parts.append(
                f"{name} {raft.role.value} of {raft.leader} in term {raft.current_term}, log {raft.first_index} to"
                f" {raft.last_index}, stable {raft.stable_index}, committed {raft.commit_index}, applied {applied},"
                f" {life.replica.status()['role']} of {_in_words(raft.configuration)} at {raft.configuration_index}"
            )
        return "; ".join([*parts, f"watchers at {self.watchers.describe()}"])

    # -- the report ----------------------------------------------------------------------------------------------

    def _outcome(self, failure: str, details: str, cpu_seconds: float) -> Outcome:
        cluster = self.cluster
        return Outcome(
            seed=self.seed,
            failure=failure,
            details=details,
            digest=cluster.trace.digest(),
            simulated_seconds=cluster.clock.seconds(),
            cpu_seconds=cpu_seconds,
            events=cluster.clock.events,
            terms=len(cluster.checkers.leaders),
            entries=len(cluster.checkers.committed),
            operations={**count_operations(self.history), **self.judged},
            faults={
                **self.faults.counts,
                **self.churn.counts,
                **self.losses.counts,
                **self.corruption.counts,
                **self.scarcity.counts,
                **self.watchers.counts,
            },
            network=dict(cluster.network.counts),
            disks=count_disks(cluster),
            situations=frozenset(cluster.coverage.situations),
            steps=frozenset(cluster.coverage.steps),
            story=sorted(
                [
                    *self.faults.story,
                    *self.churn.story,
                    *self.losses.story,
                    *self.corruption.story,
                    *self.scarcity.story,
                ],
                key=lambda event: event[1],
            ),
            lines=cluster.trace.lines,
        )


def count_disks(cluster: SimulatedCluster) -> dict[str, int]:
    """Add up what befell the disks of a cluster, and the nodes because of them."""
    counts = Counter(cluster.excuses.counts)
    counts.update(cluster.readings)
    for node in cluster.nodes.values():
        counts.update(node.disk.counts)
    return dict(counts)


@implementer(ILogObserver)
class _LoggedFailures:
    """Keeps what should not happen: log events at error and above.

    :param alarms_count: whether alarms are among them; where states are changed on purpose they are what is wanted.
    """

    def __init__(self, *, alarms_count: bool) -> None:
        self.events: list[LogEvent] = []
        self._alarms_count = alarms_count

    def __call__(self, event: LogEvent) -> None:
        # An archive that a full disk has overtaken goes on behind a snapshot, which is looked at by itself.
        is_excused = "alarm" in event and (not self._alarms_count or event["alarm"] == "archive_behind")
        if event.get("log_level") in (LogLevel.error, LogLevel.critical) and not is_excused:
            self.events.append(event)


def _in_words(configuration: Configuration) -> str:
    """Return a configuration on less than a line: voters, old voters behind a slash, learners behind a plus."""
    outgoing = f"/{','.join(sorted(configuration.outgoing_voters))}" if configuration.is_joint else ""
    learners = sorted(configuration.learners | configuration.learners_next)
    marked = ",".join(f"{name}{'^' if name in configuration.promoting else ''}" for name in learners)
    return f"[{','.join(sorted(configuration.voters))}{outgoing}{'+' + marked if marked else ''}]"


def describe_event(event: LogEvent) -> str:
    """Return a log event in words, with the error that it holds."""
    failure = event.get("log_failure")
    return formatEvent(event) + (f" ({failure.getTraceback()})" if failure is not None else "")


def draw_cluster(chance: random.Random) -> ClusterSettings:
    """Draw the shape of a cluster."""
    return ClusterSettings(
        nodes=chance.choice((3, 3, 3, 5)),
        heartbeat_interval_seconds=0.1,
        election_timeout_seconds=chance.choice((0.5, 0.8)),
        snapshot_interval_seconds=chance.choice((0.3, 0.3, 1.0, 5.0)),
        snapshot_threshold_bytes=chance.choice((512, 512, 2048, 65536)),
        trailing_entries=chance.choice((0, 2, 10, 1024)),
        max_snapshots=chance.choice((1, 2)),
        segment_bytes=chance.choice((4096, 16384)),
        raft_bounds=chance.choice(({}, _NARROW_BOUNDS)),
        max_batch_commands=chance.choice((4096, 1)),
        request_timeout_seconds=chance.choice((5.0, 1.5)),
        drift=chance.choice((0.0, 0.01, 0.1)),
        disk_delay_seconds=chance.choice((0.001, 0.004, 0.02)),
    )


def draw_cache(chance: random.Random) -> int:
    """Draw what the log may take of memory: mostly so little that members and state machines are served from disk."""
    return chance.choice((1, 1, 200, 1000, 4000, 32 * 1024 * 1024))


def draw_notes(interval: int, settings: ClusterSettings) -> ClusterSettings:
    """Give a cluster whose states are changed the interval of its notes.

    Its logs stay whole, so that nobody needs a snapshot to follow: one of a state that nobody knows to be wrong yet
    could make a majority of it.
    """
    return dataclasses.replace(settings, note_interval=interval, trailing_entries=100_000) if interval else settings


def draw_workload(chance: random.Random) -> WorkloadSettings:
    """Draw what the clients do: some 300 operations in all."""
    clients = chance.choice((3, 6, 10))
    return WorkloadSettings(
        clients=clients,
        keys=chance.choice((1, 3, 6)),
        think_seconds=clients * STORY_SECONDS / 330,
        patience_seconds=chance.choice((0.5, 2.0, 6.0)),
        attempts=chance.choice((2, 4, 8)),
        session_share=chance.choice((0.0, 0.5, 1.0)),
        large_share=chance.choice((0.0, 0.0, 0.1, 0.4)),
    )


def draw_errands(chance: random.Random, settings: WorkloadSettings) -> WorkloadSettings:
    """Draw what clients do beyond plain operations; nothing at all in some of the stories."""
    share = chance.choice((0.0, 0.5, 0.75, 0.75))
    think_seconds = settings.think_seconds * (1 + 0.5 * share)  # for what they cost: leases that run, many readers
    return dataclasses.replace(settings, think_seconds=think_seconds, errand_share=share, mix=chance.choice(MIXES))


def draw_history(chance: random.Random) -> dict[str, Any]:
    """Draw how much of the past is kept, and how many leases and locks there may be."""
    return {
        "history_max_revisions": chance.choice((5, 50, 50, 1000)),
        "history_max_age_seconds": chance.choice((0.0, 0.0, 3.0)),
        "max_leases": chance.choice((100_000, 100_000, 100_000, 3)),
        "max_lock_waiters": chance.choice((100_000, 100_000, 100_000, 2)),
    }


def draw_leases(chance: random.Random, settings: ClusterSettings) -> ClusterSettings:
    """Draw whether leaders keep a lease; the nodes know exactly how bad their clocks may be, and no more."""
    return dataclasses.replace(settings, lease_reads=chance.random() < 0.7, clock_drift_bound=settings.drift)


def draw_reads(chance: random.Random, settings: WorkloadSettings) -> WorkloadSettings:
    """Draw how consistent the clients want their reads to be."""
    lease_share, stale_share = chance.choice(((0.0, 0.0), (0.4, 0.3), (0.9, 0.0), (0.2, 0.7)))
    return dataclasses.replace(settings, lease_share=lease_share, stale_share=stale_share)


def count_operations(history: History) -> dict[str, int]:
    """Count the operations by outcome, and the reads that were answered by consistency."""
    counts = {outcome.value: history.count(outcome) for outcome in OperationOutcome}
    for operation in history:
        if operation.kind in ("read", "write") and operation.outcome is OperationOutcome.OK:
            name = name_of_errand(operation)
            counts[name] = counts.get(name, 0) + 1
        if operation.is_read and operation.outcome is OperationOutcome.OK:
            name = f"{operation.consistency}_reads"
            counts[name] = counts.get(name, 0) + 1
            if operation.consistency == "stale" and operation.staleness_seconds is not None:
                counts["stale_reads_of_known_age"] = counts.get("stale_reads_of_known_age", 0) + 1
    return counts
