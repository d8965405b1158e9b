"""``raftkv bench``: what its options become, what it refuses, and what it says."""

from __future__ import annotations

import io
import json
import shlex
import threading
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

from click.testing import CliRunner, Result
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from raftkv.bench.figures import Measured
from raftkv.bench.results import LeaderChange, Results
from raftkv.bench.specification import Load
from raftkv.bench.target import LeaderNews, NoAddress, Target, target_of
from raftkv.cli import benchview
from raftkv.cli.benchplan import Plan, size
from raftkv.cli.main import main
from raftkv.client import Cluster, Member, Status
from raftkv.errors import NoLeader


def member(name: str, *, leads: bool = False, rpc_addr: str | None = None) -> Member:
    """Return a member with addresses of its name."""
    return Member(
        id=name,
        raft_addr=f"{name}:3",
        rpc_addr=f"{name}:2" if rpc_addr is None else rpc_addr,
        http_addr=f"{name}:1",
        role="voter",
        leader=leads,
        match_index=1,
        healthy=True,
        last_contact=0.0,
    )


def cluster(leader: str | None = "n1", term: int = 3) -> Cluster:
    """Return three members, of whom one leads."""
    members = tuple(member(name, leads=name == leader) for name in ("n1", "n2", "n3"))
    return Cluster(cluster_id="ab" * 16, leader=leader, term=term, members=members, raw={})


def status(leader: str | None, term: int) -> Status:
    """Return what a node says of who leads."""
    numbers = dict.fromkeys(
        ("commit_index", "applied_index", "first_index", "last_index", "snapshot_index", "revision"), 0
    )
    return Status(
        node_id="n2",
        cluster_id="ab" * 16,
        role="follower",
        term=term,
        leader=leader,
        **{**numbers, "compact_revision": 0, "keys": 0, "digest": "", "uptime": 1.0, "version": "1"},
        alarms=(),
        raw={},
    )


class _Stranger(BaseHTTPRequestHandler):
    """A web server that knows nothing."""

    def do_GET(self) -> None:
        """Say so."""
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing on standard error."""


class OptionsTests(SynchronousTestCase):
    """What the options become."""

    def plan_of(self, *arguments: str) -> Plan:
        """Return the plan that a command line makes."""
        plans: list[Plan] = []

        def run(bench: object) -> int:
            plans.append(bench._plan)  # type: ignore[attr-defined]
            return 0

        with mock.patch("raftkv.cli.benchrun.Bench.run", run):
            done = CliRunner().invoke(main, ["bench", *arguments])
        self.assertEqual(done.exit_code, 0, done.output)
        return plans[0]

    def refused(self, *arguments: str) -> str:
        """Return the sentence with which a command line is refused, which must be a fault of usage."""
        done: Result = CliRunner().invoke(main, ["bench", *arguments])
        self.assertEqual(done.exit_code, 2, done.output)
        return done.stderr

    def test_defaults(self) -> None:
        """Without options it is a bounded load of a few seconds under a prefix of its own, cleaned up afterwards."""
        plan = self.plan_of()
        load = plan.load
        self.assertEqual((load.generator, load.protocol, load.operation), ("closed", "rpc", "put"))
        self.assertEqual((load.outstanding, load.connections, load.seconds, load.rate), (64, 1, 5.0, 0.0))
        self.assertEqual((load.prefix, plan.keeps, plan.overwrites), ("raftkv-bench/", False, False))
        self.assertEqual(plan.addresses, ("http://127.0.0.1:8080",))
        self.assertTrue(load.reconnects)

    def test_ways(self) -> None:
        """HTTP has a connection for each request, the client is asked as it is, and a rate has a loop of its own."""
        http = self.plan_of("--via", "http", "--outstanding", "16").load
        self.assertEqual((http.protocol, http.connections), ("http", 16))
        self.assertEqual(self.plan_of("--via", "client", "--rate", "100").load.generator, "native")
        self.assertEqual(self.plan_of("--rate", "100").load.generator, "evenpace")

    def test_mixed(self) -> None:
        """Nine of ten are reads unless something else is said, and the part belongs to nothing else."""
        self.assertEqual(self.plan_of("--work", "mixed").load.reads, 0.9)
        self.assertEqual(self.plan_of("--work", "mixed", "--reads", "0").load.reads, 0.0)
        self.assertIn("--work mixed", self.refused("--reads", "0.5"))

    def test_requests(self) -> None:
        """A number of requests stands in place of a time, and needs no more keys than that."""
        load = self.plan_of("--requests", "7").load
        self.assertEqual((load.requests, load.keys), (7, 7))
        self.assertIn("leave --seconds", self.refused("--requests", "7", "--seconds", "1"))

    def test_refused(self) -> None:
        """What makes no sense is a fault of usage, named."""
        self.assertIn("--prefix must not be empty", self.refused("--prefix", ""))
        self.assertIn("UTF-8", self.refused("--prefix", "\udcff"))
        self.assertIn("scheme", self.refused("-a", "localhost"))
        self.assertIn("TLS", self.refused("--via", "http", "-a", "https://localhost"))
        self.assertIn("--connections", self.refused("--via", "client", "--connections", "2"))
        self.assertIn("contradict", self.refused("--keep", "--clean"))
        for option in ("--outstanding", "--keys", "--value-bytes", "--rate", "--connections"):
            self.assertIn(option, self.refused(option, "0"))


class TargetTests(SynchronousTestCase):
    """Which node is asked."""

    def test_addresses(self) -> None:
        """The leader is asked where it says; the others are those to turn to."""
        target = target_of(cluster("n2"))
        self.assertEqual((target.leader, target.term), ("n2", 3))
        self.assertEqual((target.address("native"), target.address("client")), ("n2:2", "n2:2"))
        self.assertEqual((target.address("http"), target.others("http")), ("n2:1", ("n1:1", "n3:1")))

    def test_no_leader(self) -> None:
        """Without a leader there is nothing to load."""
        self.assertRaises(NoLeader, target_of, cluster(None))

    def test_no_address(self) -> None:
        """A leader that does not say where it listens is named."""
        target = Target(cluster_id="c", leader="n1", term=1, members=(member("n1", rpc_addr=""),))
        self.assertIn("n1 leads", str(self.assertRaises(NoAddress, target.address, "native")))
        self.assertEqual(target.address("http"), "n1:1")

    def test_change(self) -> None:
        """A later term with a leader is a change; the same one, an earlier one, or one without a leader is none."""
        news = LeaderNews(target_of(cluster("n1", 3)))
        for leader, term in (("n1", 3), ("n2", 2), (None, 5)):
            self.assertIsNone(news.hear(status(leader, term), lambda: self.fail("the members were asked for")))
        found = news.hear(status("n2", 5), lambda: cluster("n2", 5))
        self.assertEqual((found and found.leader, found and found.term), ("n2", 5))
        self.assertIsNone(news.hear(status("n2", 5), lambda: self.fail("the change was told twice")))

    def test_late_answer(self) -> None:
        """A list of members that is older than what is known changes nothing."""
        news = LeaderNews(target_of(cluster("n1", 3)))
        self.assertIsNone(news.hear(status("n2", 4), lambda: cluster("n1", 3)))


class ViewTests(SynchronousTestCase):
    """What it says."""

    def plan(self, *, as_json: bool = False, **more: object) -> Plan:
        """Return a plan."""
        values: dict[str, object] = {
            "generator": "closed",
            "protocol": "rpc",
            "addresses": (),
            "prefix": "b/",
            "outstanding": 64,
            **more,
        }
        load = Load(**values)  # type: ignore[arg-type]
        flags = {"overwrites": False, "keeps": False, "as_json": as_json}
        return Plan(addresses=("http://n9:1",), timeout=1, via="native", load=load, **flags)

    def results(self) -> Results:
        """Return results with something of everything."""
        made = Results()
        made.add(Measured(latencies=[0.002] * 990 + [0.012] * 10, seconds=2.0, unsent=3))
        made.errors.update({"no_leader": 4, "timeout": 1})
        made.changes.append(LeaderChange(seconds=1.25, leader="n2", term=4))
        return made

    def said(self, results: Results, *, is_terminal: bool = False) -> tuple[str, str]:
        """Return what is written on standard output and on standard error."""
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.object(
            benchview,
            "Console",
            lambda **more: Console(
                **{**more, "stderr": False, "file": err if more.get("stderr") else out, "width": 80},
                force_terminal=is_terminal,
                color_system=None,
            ),
        ):
            view = benchview.View(self.plan())
        view.introduce(target_of(cluster()))
        view.progress(results)
        view.finish(target_of(cluster()), results, deleted=10_000, is_interrupted=False)
        return out.getvalue(), err.getvalue()

    def test_figures(self) -> None:
        """The figures, the errors by code, the leader and the clean-up are told, on lines that fit a terminal."""
        out, err = self.said(self.results())
        for part in (
            *("n1 in term 3, at n1:2", "puts of 256 bytes, by RPC", "10,000 under 'b/', deleted afterwards"),
            *("1,000 requests in 2.0 s, 500 a second", "5 errors", "no_leader", "n2 leads in term 4, noticed at 1.2 s"),
            *("3 requests due and not sent in time", "10,000 keys deleted", "2.01 ms", "12.0 ms"),
        ):
            self.assertIn(part, out)
        self.assertEqual(err, "")
        self.assertLessEqual(max(map(len, out.splitlines())), 80)

    def test_progress(self) -> None:
        """On a terminal there is a line for each second, on standard error, with the news of the leader."""
        _, err = self.said(self.results(), is_terminal=True)
        self.assertIn("n2 leads in term 4", err)
        self.assertRegex(err, r"2 s +500/s +p99 +2\.01 ms +5 errors")

    def test_progress_of_a_second(self) -> None:
        """Each line is about its second alone: what went wrong or was slow in an earlier one is not told again."""
        err = io.StringIO()
        console = Console(file=err, force_terminal=True, color_system=None, width=80)
        with mock.patch.object(benchview, "Console", return_value=console):
            view = benchview.View(self.plan())
        results = Results()
        results.add(Measured(latencies=[0.5] * 100, errors=Counter(no_leader=7), seconds=1.0))
        view.progress(results)
        results.add(Measured(latencies=[0.002] * 300, errors=Counter(), seconds=2.0))
        view.progress(results)
        results.add(Measured(latencies=[], errors=Counter(timeout=1), seconds=3.0))
        view.progress(results)
        lines = err.getvalue().splitlines()
        self.assertRegex(lines[0], r"1 s +100/s +p99 +500 ms +7 errors")
        self.assertRegex(lines[1], r"2 s +300/s +p99 +2\.00 ms +no errors")
        self.assertRegex(lines[2], r"3 s +0/s +p99 +- +1 error$")

    def test_nothing(self) -> None:
        """Without a single answer there is no percentile and no histogram, and no error of ours."""
        out, _ = self.said(Results())
        self.assertIn("no requests in 0.0 s", out)
        self.assertNotIn("p99", out)

    def test_json(self) -> None:
        """Every figure is in the document; what is not known is null."""
        document = self.results().document()
        self.assertEqual((document["requests"], document["per_second"], document["error_count"]), (1000, 500.0, 5))
        self.assertEqual(document["errors"], {"no_leader": 4, "timeout": 1})
        self.assertEqual(document["leader_changes"], [{"seconds": 1.25, "leader": "n2", "term": 4}])
        self.assertEqual(sum(bar["count"] for bar in document["histogram"]), 1000)
        self.assertEqual((document["max_ms"], document["p999_ms"]), (12.0, document["p999_ms"]))
        self.assertLess(abs(document["p50_ms"] - 2.0), 0.01)
        self.assertIsNone(json.loads(json.dumps(Results().document()))["p99_ms"])

    def test_plain_bars(self) -> None:
        """Where the terminal knows no more than ASCII, bars are made of that."""
        drawn = str(benchview._histogram(self.results().latencies.bars(), is_unicode=False))
        self.assertTrue(drawn.isascii())
        self.assertIn("####", drawn)

    def test_urls(self) -> None:
        """The cluster is asked where the user said, and where its members say, each once."""
        plan = self.plan()
        self.assertEqual(plan.urls(target_of(cluster()))[:2], ("http://n9:1", "http://n1:1"))

    def test_cleaning_command(self) -> None:
        """What deletes the rest can be given to a shell as it is said, and asks the same cluster."""
        said = replace(self.plan(), load=replace(self.plan().load, prefix="it's $HOME/")).cleaning_command()
        self.assertEqual(shlex.split(said), [
            *("raftkv", "bench", "--clean", "--prefix", "it's $HOME/", "-a", "http://n9:1"),
        ])  # fmt: skip

    def test_strangers(self) -> None:
        """Something else that listens at the address is told, with the address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Stranger)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            done = CliRunner().invoke(main, ["bench", "-a", url])
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        self.assertEqual(done.exit_code, 1, done.output)
        self.assertIn(f"what answers at {url} is no raftkv", done.stderr)

    def test_sizes(self) -> None:
        """Sizes are said in the largest unit in which they are short."""
        self.assertEqual([size(n) for n in (1, 256, 1000, 1024, 1536, 1 << 20)], [
            *("1 byte", "256 bytes", "1,000 bytes", "1 KiB", "1.5 KiB", "1 MiB"),
        ])  # fmt: skip
