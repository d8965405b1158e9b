"""Real nodes, one of which makes another state of the same log: it stops serving, is cured, and serves again."""

from __future__ import annotations

import time

from tests.functional.processes import FunctionalTestCase, Node, free_port

INTERVAL = 64

#: What Python runs first in each of the nodes: the product has no switch for this. Where a file of the node's name is
#: found beside its configuration, the next entry that is applied brings a key that nobody wrote, once.
SITECUSTOMIZE = f"""
import os, sys

import raftkv.server.notes

raftkv.server.notes.NOTE_INTERVAL = {INTERVAL}  # before anybody takes it over

from raftkv.kvstore import store
from raftkv.testing.corruption import put_stray_key

name = sys.orig_argv[-1].removesuffix(".yaml")
apply = store.Store.apply


def apply_wrongly(self, index, payload):
    results = apply(self, index, payload)
    if os.path.exists(name + ".corrupt"):
        os.remove(name + ".corrupt")
        put_stray_key(self, b"wrong")
    return results


store.Store.apply = apply_wrongly
"""


class DivergenceTests(FunctionalTestCase):
    """Three processes."""

    def setUp(self) -> None:
        super().setUp()
        site = self.folder / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
        self.site = str(site)

    def make_trio(self) -> list[Node]:
        """Start a cluster whose states can be changed from outside."""
        peers = {name: f"127.0.0.1:{free_port()}" for name in ("n1", "n2", "n3")}
        nodes = [self.make_node(name, peers=peers) for name in peers]
        for node in nodes:
            node.start(first_path=self.site)
        self.wait_ready(*nodes)
        return nodes

    def corrupt(self, node: Node) -> None:
        """Let the next entry make something wrong of a node's state."""
        (self.folder / f"{node.name}.corrupt").touch()

    def write_until_noted(self, node: Node) -> None:
        """Write until every node must have compared its state."""
        written = 0
        while written < INTERVAL + 5:
            answer = node.set(f"k{written % 9}", str(written))
            written += answer.status == 200
            if answer.status != 200:  # a leader that is found out stops serving with some of it under way
                self.assertEqual(answer.status, 503, answer.body)
                time.sleep(0.01)

    def cured(self, wrong: Node, nodes: list[Node]) -> None:
        """Wait until a node has been found out, has fetched the right state, and serves it."""
        self.wait_until(lambda: "differs from that of the majority" in wrong.log(), "the alarm")
        self.wait_until(lambda: "it serves again" in wrong.log(), "the end of the alarm")
        self.wait_ready(*nodes)
        metrics = wrong.request("GET", "/metrics").body.decode()
        self.assertIn("raftkv_states_diverged_total 1.0", metrics)
        self.assertIn('raftkv_alarm{alarm="fenced"} 0.0', metrics)
        self.assertIsNone(wrong.get("stray%20wrong"))

        def agree() -> bool:
            statuses = [node.status() for node in nodes]
            return len({(status["applied_index"], status["digest"]) for status in statuses}) == 1

        self.wait_until(agree, "equal states")

    def test_follower(self) -> None:
        """A follower whose state differs fetches that of the others by itself (B38)."""
        nodes = self.make_trio()
        leader = self.leader(nodes)
        wrong = next(node for node in nodes if node is not leader)
        self.corrupt(wrong)
        self.write_until_noted(leader)
        self.cured(wrong, nodes)

    def test_leader(self) -> None:
        """A leader whose state differs hands over first, and nobody's write is lost (B38)."""
        nodes = self.make_trio()
        leader = self.leader(nodes)
        other = next(node for node in nodes if node is not leader)
        self.corrupt(leader)
        self.write_until_noted(other)
        self.cured(leader, nodes)
        self.assertIsNot(self.leader(nodes), leader)
