"""One seed, one story: a cluster, its clients and its misfortunes, drawn from a number and judged.

First everything may go wrong, and only safety is demanded, after every event. Then everything is mended, and the
cluster has to make progress. In the end what the clients saw is judged. The same seed gives the same story, event for
event, in any process.
"""

from __future__ import annotations

import random
import time
import traceback
from dataclasses import replace

from twisted.logger import globalLogPublisher

from raftkv.server.assembly import assemble
from raftkv.testing.checkers import Violation
from raftkv.testing.churn import Churn, draw_churn
from raftkv.testing.cluster import ClusterSettings, Composition, SimulatedCluster
from raftkv.testing.corruption import Corruption, draw_corruption
from raftkv.testing.drawing import (
    STORY_SECONDS,
    Chances,
    draw_cache,
    draw_cluster,
    draw_errands,
    draw_history,
    draw_leases,
    draw_notes,
    draw_reads,
    draw_workload,
)
from raftkv.testing.excerpt import WHOLE, Excerpt
from raftkv.testing.faults import Faults, draw_faults, draw_network
from raftkv.testing.history import History
from raftkv.testing.judging import judge, judge_states
from raftkv.testing.lasting import LastingFault, draw_lasting
from raftkv.testing.liveness import Liveness
from raftkv.testing.loggedfailures import LoggedFailures, describe_event
from raftkv.testing.losses import Losses, LossSettings, draw_losses
from raftkv.testing.outcome import Outcome, count_disks, count_operations
from raftkv.testing.queries import Query, is_of_the_past
from raftkv.testing.scarcity import Scarcity, ScarcitySettings, draw_scarcity, with_reserve
from raftkv.testing.succession import Succession
from raftkv.testing.watching import Watchers, draw_watchers
from raftkv.testing.workload import Workload


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
        self.seed = seed
        self.story_seconds = STORY_SECONDS if excerpt.seconds is None else excerpt.seconds
        self.history = History()
        self.judged: dict[str, int] = {}
        chances, without = Chances(seed), excerpt.without
        spares, churn = draw_churn(chances.churn)
        losses = draw_losses(chances.losses, members_change=spares > 0)
        # Who has lost its disk has no say in which state is right, so that a wrong one might not be outvoted.
        members_change = bool(churn.weights or losses.pause_seconds)
        note_interval, corruption = draw_corruption(chances.corruption, members_change=members_change)
        scarcity = draw_scarcity(chances.scarcity, states_change=note_interval > 0, members_change=members_change)
        self.cluster = SimulatedCluster(
            settings=draw_notes(note_interval, _draw_shape(chances, spares=spares, losses=losses, scarcity=scarcity)),
            network_settings=draw_network(chances.story),
            seed=chances.story.getrandbits(64),
            compose=compose,
            keep_trace=keep_trace,
        )
        faults = draw_faults(chances.story)
        self.workload = self._make_workload(chances, excerpt)
        self.workload.known.past_stays_right = not corruption.pause_seconds
        self.faults = Faults(
            self.cluster,
            random=random.Random(chances.story.getrandbits(64)),
            settings=faults,
            burst=self.workload.burst,
            glance=self.workload.glance,
            without=without,
        )
        self.churn = Churn(self.cluster, random=chances.churn, settings=churn, without=without)
        self.losses = Losses(
            self.cluster, random=chances.losses, settings=losses, burst=self.workload.burst, without=without
        )
        self.corruption = Corruption(self.cluster, random=chances.corruption, settings=corruption, without=without)
        self.scarcity = Scarcity(
            self.cluster,
            random=chances.scarcity,
            settings=scarcity,
            burst=self.workload.burst,
            without=without,
        )
        self.watchers = self._make_watchers(chances.watchers)
        self.lasting = draw_lasting(chances.lasting) if not spares else ""
        may_go_round = not (
            self.lasting or spares or corruption.pause_seconds or not self.workload.settings.errand_share
        )
        self.is_succession = may_go_round and chances.succession.random() < 0.2
        self.liveness = Liveness(
            self.cluster, workload=self.workload, history=self.history, churn=self.churn, watchers=self.watchers
        )
        self._observer = LoggedFailures(alarms_count=not corruption.pause_seconds)

    def _make_workload(self, chances: Chances, excerpt: Excerpt) -> Workload:
        settings = draw_errands(chances.errands, draw_workload(chances.story))
        if excerpt.clients is not None:
            settings = replace(settings, clients=min(excerpt.clients, settings.clients))
        workload = Workload(
            network=self.cluster.network,
            history=self.history,
            random=random.Random(chances.story.getrandbits(64)),
            nodes=self.cluster.names,
            settings=draw_reads(chances.reads, settings),
            random_of_reads=chances.reads,
            random_of_errands=chances.errands,
        )
        workload.is_excused = self._is_excused
        return workload

    def _make_watchers(self, chance: random.Random) -> Watchers:
        watchers = Watchers(
            network=self.cluster.network,
            nodes=self.cluster.names,
            random=chance,
            settings=draw_watchers(chance),
            past_is_right=lambda: self.cluster.checkers.states.past_is_right,
        )
        if watchers.settings.watchers:
            self.cluster.on_applied.append(watchers.truth.applied)
        return watchers

    def _is_excused(self, name: str, index: int, query: Query | None) -> bool:
        checkers = self.cluster.checkers
        is_of_wrong_past = query is not None and is_of_the_past(query) and not checkers.states.past_is_right
        return is_of_wrong_past or checkers.states.is_excused(name, index)

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
        self._go_wrong()
        self._come_to_rest()
        self._judge()

    def _go_wrong(self) -> None:
        """Let everything go wrong until its time is over."""
        self.losses.start_all()
        self.workload.start()
        self.watchers.start()
        self.faults.start()
        self.churn.start()
        self.corruption.start()
        self.scarcity.start()
        self.cluster.clock.run_until(self.story_seconds)
        self.losses.end()
        self.scarcity.end()
        self.faults.end_all()
        self.churn.end()
        self.corruption.end()

    def _come_to_rest(self) -> None:
        """Demand progress of what is mended."""
        cluster, live, demand = self.cluster, self.liveness, self.liveness.demand
        if self.churn.counts:
            # What nodes were asked for goes on until its time is over.
            cluster.clock.run_until(self.story_seconds + 2 * cluster.settings.request_timeout_seconds)
        demand(live.is_whole, "the members are there, and nobody is on the way")
        demand(lambda: self.corruption.is_undone, "every node holds the state of the majority")
        demand(live.is_settled, "the mended cluster agrees on a leader and a log")
        self.watchers.calm_down()
        self.workload.stop()
        demand(lambda: self.workload.is_idle, "the clients' last operations return")
        LastingFault(cluster, kind=self.lasting, workload=self.workload, liveness=live).run()
        if self.is_succession:
            Succession(cluster, self.workload.clients[0], demand).run()
        live.everybody_answers()
        demand(live.nothing_is_owed, "every write that a node took is answered")
        demand(live.nothing_is_held, "leases that nobody keeps alive end, and with them locks")
        demand(lambda: self.watchers.know_everything, "every watcher is told everything")
        self.watchers.stop()
        demand(live.is_settled, "the cluster is at rest")

    def _judge(self) -> None:
        """Judge what the clients saw, and what is left."""
        if self.workload.served_by_fenced:
            raise Violation("fenced node serves", self.workload.served_by_fenced[0])
        self.judged = judge(self.corruption.excuse(self.history), self.cluster)
        judge_states(self.cluster)
        if self._observer.events:
            raise Violation("logged failure", "; ".join(map(describe_event, self._observer.events)))

    def _outcome(self, failure: str, details: str, cpu_seconds: float) -> Outcome:
        cluster = self.cluster
        troubles = (self.faults, self.churn, self.losses, self.corruption, self.scarcity)
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
            faults=dict(item for each in (*troubles, self.watchers) for item in each.counts.items()),
            network=dict(cluster.network.counts),
            disks=count_disks(cluster),
            situations=frozenset(cluster.coverage.situations),
            steps=frozenset(cluster.coverage.steps),
            story=sorted((event for trouble in troubles for event in trouble.story), key=lambda event: event[1]),
            lines=cluster.trace.lines,
        )


def _draw_shape(chances: Chances, *, spares: int, losses: LossSettings, scarcity: ScarcitySettings) -> ClusterSettings:
    """Draw the shape of a cluster, with what its troubles need of it."""
    return replace(
        with_reserve(draw_leases(chances.reads, draw_cluster(chances.story)), scarcity),
        spares=spares,
        asks_first=losses.asks_first,
        log_cache_bytes=draw_cache(chances.cache),
        **draw_history(chances.errands),
    )
