"""From samples to lines: medians over the rounds, ratios, wanted ratios, and what is missing."""

from __future__ import annotations

import io
import json
from typing import Any

from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from benchmarks import chart, report
from benchmarks.__main__ import entrants
from benchmarks.peers import PEERS, Etcd, RaftKV
from benchmarks.results import Session
from benchmarks.runs import Lane, Sample, failover_seconds
from benchmarks.works import WORKS, Measure, Work, chosen, quick

RATE = Measure(figure="per_second", better="higher", must=5, goal=10)
PUT = Work(name="put-1000", title="put", kind="native", measures=(RATE,))


def session(samples: dict[str, list[float]], work: Work = PUT, figure: str = "per_second") -> Session:
    """Return a session with the figures of each lane's rounds; a lane is ``peer`` or ``peer door``."""
    made = Session(works=[work], seconds=1.0, rounds=3, is_quick=False, equals=frozenset({"etcd"}))
    for name, values in samples.items():
        peer, _, door = name.partition(" ")
        for number, value in enumerate(values):
            figures = {figure: value, "errors": 1.0}
            made.samples.append(
                Sample(
                    work=work.name,
                    lane=Lane(peer=peer, door=door),
                    round=number + 1,
                    figures=figures,
                    load_average=0.1,
                )
            )
    return made


class LineTests(SynchronousTestCase):
    """One line for each contestant."""

    def test_ratio_of_medians(self) -> None:
        """The ratio is that of the medians, so that a disturbed round of one contestant does not count."""
        ours, theirs = session({"raftkv": [60.0, 61.0, 1.0], "etcd": [10.0, 90.0, 9.0]}).lines()
        self.assertEqual((ours.value, theirs.value, ours.ratios), (60.0, 10.0, {"etcd": 6.0}))
        self.assertEqual((ours.must_met, ours.goal_met, theirs.must_met), (True, False, None))

    def test_only_equals_count(self) -> None:
        """A peer that promises less is shown with its ratio, and decides nothing."""
        ours, *_ = session({"raftkv": [60.0], "etcd": [10.0], "redis": [600.0]}).lines()
        self.assertEqual(ours.ratios, {"etcd": 6.0, "redis": 0.1})
        self.assertTrue(ours.must_met)

    def test_better_door(self) -> None:
        """Of a peer's several interfaces the better one is compared, with each of ours."""
        lines = session({"raftkv a": [8.0], "raftkv b": [4.0], "etcd v3": [1.0], "etcd v2": [2.0]}).lines()
        self.assertEqual([line.ratios for line in lines[:2]], [{"etcd": 4.0}, {"etcd": 2.0}])

    def test_retired_door(self) -> None:
        """An interface that is retired is shown with its ratio, and decides nothing."""
        ours, *_ = session({"raftkv": [6.0], "etcd v3": [1.0], "etcd retired v2": [8.0]}).lines()
        self.assertEqual((ours.ratios, ours.must_met), ({"etcd": 6.0, "etcd retired v2": 0.75}, True))

    def test_times(self) -> None:
        """Of times the lower is better: the wanted ratio is an upper bound, and the faster interface is compared."""
        work = Work(
            name="w", title="", kind="http", measures=(Measure(figure="p50_ms", better="lower", must=1.3, goal=1.0),)
        )
        ours, *_ = session({"raftkv": [1.2], "etcd v3": [1.0], "etcd v2": [2.0]}, work, "p50_ms").lines()
        self.assertEqual((ours.ratios, ours.must_met, ours.goal_met), ({"etcd": 1.2}, True, False))

    def test_no_peer(self) -> None:
        """Alone nothing is reached and nothing missed."""
        (ours,) = session({"raftkv": [60.0]}).lines()
        self.assertEqual((ours.ratios, ours.must_met, ours.goal_met), ({}, None, None))

    def test_run_without_success(self) -> None:
        """A round without a success is left out of the median, which shows in the number of rounds."""
        ours, _ = session({"raftkv": [60.0, float("nan")], "etcd": [10.0, 10.0]}).lines()
        self.assertEqual((ours.value, ours.rounds, ours.errors), (60.0, 1, 2.0))

    def test_own_ratio(self) -> None:
        """A figure that is a ratio already is held against the bound itself."""
        measure = Measure(figure="rate_during_to_before", better="higher", must=0.8, goal=0.95, is_ratio=True)
        work = Work(name="w", title="", kind="snapshot", measures=(measure,))
        ours, _ = session({"raftkv": [0.9], "etcd": [0.1]}, work, "rate_during_to_before").lines()
        self.assertEqual((ours.ratios, ours.must_met, ours.goal_met), ({}, True, False))


class Absent(Etcd):
    """An etcd that is not installed."""

    def missing(self) -> str:
        """Say so."""
        return "not here"


class EntrantsTests(SynchronousTestCase):
    """Who takes part."""

    def test_missing_peer_is_named(self) -> None:
        """A peer that is not installed is said to be missing, once, and the others go on."""
        made = session({})
        for _ in range(2):
            self.assertEqual([lane.peer for _, lane in entrants(made, [RaftKV(), Absent()], PUT)], ["raftkv"])
        self.assertEqual(made.missing, ["etcd: not here"])
        self.assertIn("missing: etcd: not here", list(report.remarks(made)))

    def test_refusal_is_named(self) -> None:
        """A peer that has nothing for a work is named with its reason."""
        made = session({})
        http = next(work for work in WORKS if work.kind == "http")
        for peer in PEERS.values():
            entrants(made, [peer], http)
        self.assertIn(f"redis in {http.name}: speaks no HTTP", made.missing)

    def test_each_door_runs(self) -> None:
        """Over HTTP each interface of a contestant is a run of its own."""
        http = next(work for work in WORKS if work.name == "http-put-64")
        self.assertEqual(
            [lane.door for _, lane in entrants(session({}), [RaftKV()], http)], ["PUT /v1/kv/", "POST /set"]
        )


class ShownTests(SynchronousTestCase):
    """Tables, pages, charts."""

    def test_everything_draws(self) -> None:
        """Each work makes a line of the table, a line of JSON and valid SVG, with one contestant or with all."""
        from xml.etree import ElementTree

        for work in WORKS:
            for names in (["raftkv"], ["raftkv", "etcd", "redis"]):
                for figure in (measure.figure for measure in work.measures):
                    made = session({name: [2.0, 3.0] for name in names}, work, figure)
                    ElementTree.fromstring(chart.draw(made))
                    told: dict[str, Any] = json.loads(json.dumps(made.to_dict()))
                    self.assertEqual(len(told["lines"]), len(names) * len(work.measures))
                    console = Console(record=True, width=200, file=io.StringIO())
                    report.show(made, console)
                    self.assertIn(work.title[:20], console.export_text())

    def test_busy_machine_is_told(self) -> None:
        """Figures from a machine that was not quiet say so, in the table and in the chart."""
        made = session({"raftkv": [1.0], "etcd": [1.0]})
        self.assertNotIn("not quiet", " ".join(report.remarks(made)))
        made.samples = [
            Sample(work=s.work, lane=s.lane, round=s.round, figures=s.figures, load_average=3.0) for s in made.samples
        ]
        self.assertIn("load average of 3.0", " ".join(report.remarks(made)))
        self.assertIn("not a quiet machine", chart.draw(made))

    def test_advantage(self) -> None:
        """In the chart longer is better, for rates and for times."""
        work = Work(name="w", title="", kind="native", measures=(Measure(figure="p50_ms", better="lower"),))
        ours, _ = session({"raftkv": [1.0], "etcd": [4.0]}, work, "p50_ms").lines()
        self.assertEqual(chart.advantage(ours, "etcd"), 4.0)
        ours, _ = session({"raftkv": [8.0], "etcd": [4.0]}).lines()
        self.assertEqual(chart.advantage(ours, "etcd"), 2.0)


class WorksTests(SynchronousTestCase):
    """The list of works."""

    def test_names(self) -> None:
        """Every work has a name of its own."""
        self.assertEqual(len({work.name for work in WORKS}), len(WORKS))

    def test_chosen(self) -> None:
        """A name chooses one work or, as a beginning, several; an unknown one is an error."""
        self.assertEqual([work.name for work in chosen(("put-1",))], ["put-1"])
        self.assertEqual({work.chart[0] for work in chosen(("grow-n",)) if work.chart}, {"nodes"})
        self.assertEqual(chosen(()), WORKS)
        self.assertRaises(KeyError, chosen, ("nothing",))

    def test_every_key_is_used(self) -> None:
        """The stride through the keys meets every key once, for every number of keys that there is."""
        from raftkv.bench.specification import Load

        for count in {min(work.keys, 10_000) for work in (*WORKS, *map(quick, WORKS))}:
            load = Load(generator="closed", protocol="rpc", addresses=(), keys=count)
            self.assertEqual(len({load.key(number) for number in range(count)}), count)


class FailoverTests(SynchronousTestCase):
    """What counts as the end of an outage."""

    def test_first_success(self) -> None:
        """It is the first answer to a write that was sent after the leader had died, whatever was sent first."""
        self.assertEqual(failover_seconds(10.0, [(9.9, 10.1), (10.2, 11.5), (10.4, 11.25)]), 1.25)

    def test_never(self) -> None:
        """Where no later write succeeds there is no figure."""
        seconds = failover_seconds(10.0, [(9.0, 9.1)])
        self.assertNotEqual(seconds, seconds)
