"""Watches of real processes: complete and in order, over a leader's death and a node's end."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from tests.functional.load import Load
from tests.functional.processes import FunctionalTestCase, Node, sleep


class Watching(threading.Thread):
    """A client that follows a prefix, over however many streams or polls, and notes what it was told.

    :ivar events: in the order in which they came, each once its revision was complete.
    :ivar last_id: behind which it goes on.
    :ivar streams: how many it has begun.
    :ivar clean_ends: how many of them ended as a whole answer does.
    """

    def __init__(self, nodes: Sequence[Node], prefix: str, *, first: int = 1) -> None:
        super().__init__(daemon=True)
        self._nodes = itertools.cycle(nodes)
        self._prefix = prefix
        self._first = first
        self._stopping = False
        self._connection: http.client.HTTPConnection | None = None
        self.events: list[dict[str, Any]] = []
        self.ids: list[int] = []
        self.last_id: int | None = None
        self.streams = 0
        self.clean_ends = 0
        self.start()

    def run(self) -> None:
        """Follow, from node to node."""
        while not self._stopping:
            node = next(self._nodes)
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
                self._connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=3)
                self._follow(self._connection)
            time.sleep(0.05)

    def _follow(self, connection: http.client.HTTPConnection) -> None:
        headers = {} if self.last_id is None else {"Last-Event-ID": str(self.last_id)}
        connection.request(
            "GET", f"/v1/watch?prefix={self._prefix}&from_revision={self._first}&progress=0.5", headers=headers
        )
        answer = connection.getresponse()
        if answer.status != 200:
            return
        self.streams += 1
        part: list[dict[str, Any]] = []
        event: dict[str, str] = {}
        while line := answer.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                event[name] = value
                continue
            if event["event"] in ("put", "delete"):
                part.append(json.loads(event["data"]))
            if "id" in event:
                self.events += part
                self.last_id = int(event["id"])
                self.ids.append(self.last_id)
                part = []
            event = {}
        self.clean_ends += 1

    def stop(self) -> None:
        """Follow no longer."""
        self._stopping = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            connection.sock.close()


class Polling(Watching):
    """The same by long polls, each on another node."""

    def _follow(self, connection: http.client.HTTPConnection) -> None:
        first = self._first if self.last_id is None else self.last_id + 1
        connection.request("GET", f"/v1/watch?prefix={self._prefix}&from_revision={first}&poll=1")
        answer = connection.getresponse()
        document = json.loads(answer.read())
        if answer.status == 200:
            self.streams += 1
            self.events += document["events"]
            self.last_id = document["revision"]
            self.ids.append(document["revision"])


class WatchTests(FunctionalTestCase):
    """Watchers of a cluster."""

    async def test_leader_is_killed_under_load(self) -> None:
        """Watches through a follower, through the leader that dies, and by polls: each acknowledged write is told once,
        in order, and every watcher is told the same."""
        nodes = self.make_cluster(electionTimeout=1.0, heartbeatInterval=0.1)
        leader = self.leader(nodes)
        follower, other = (node for node in nodes if node is not leader)
        watchers = [
            Watching([follower, other, leader], "load/"),
            Watching([leader, other, follower], "load/"),
            Polling([leader, follower, other], "load/"),
        ]
        load = Load(nodes, writers=4)
        await sleep(2)
        leader.kill()
        await sleep(4)
        leader.start()
        self.wait_ready(leader)
        await sleep(1)
        await load.stop()
        self.assertGreater(len(load.acknowledged), 100)
        last = max(node.status()["revision"] for node in nodes)
        for watcher in watchers:
            self.wait_until(lambda watcher=watcher: (watcher.last_id or 0) >= last, "a watcher to be told everything")
            watcher.stop()
        told = [[(event["kv"]["mod_revision"], event["kv"]["key"]) for event in each.events] for each in watchers]
        for sequence, watcher in zip(told, watchers, strict=True):
            revisions = [revision for revision, _ in sequence]
            self.assertEqual(revisions, sorted(set(revisions)), "each revision has one write, and comes once")
            self.assertEqual(watcher.ids, sorted(watcher.ids))
            values = {event["kv"]["key"]: event["kv"]["value"] for event in watcher.events}
            self.assertEqual(len(values), len(sequence), "every key is written once, and told once")
            lost = [key for key, value in load.acknowledged.items() if values.get(key) != value]
            self.assertEqual(lost, [])
            self.assertEqual({event["prev_kv"] for event in watcher.events}, {None})
        self.assertEqual(told[0], told[1])
        self.assertEqual(told[0], told[2])
        self.assertGreater(watchers[1].streams, 1, "the stream through the leader broke")

    async def test_node_stops(self) -> None:
        """A node that is stopped ends its streams as whole answers, and nobody misses anything elsewhere."""
        first, second, third = self.make_cluster()
        watcher = Watching([first, second, third], "k")
        for number in range(10):
            second.set(f"k{number}", "v")
        self.wait_until(lambda: len(watcher.events) == 10, "the first events")
        began = time.monotonic()
        self.assertEqual(first.stop(), 0)
        self.assertLess(time.monotonic() - began, 8)
        self.wait_until(lambda: watcher.streams > 1, "another stream")
        self.assertEqual(watcher.clean_ends, 1)
        for number in range(10, 20):
            second.set(f"k{number}", "v")
        self.wait_until(lambda: len(watcher.events) == 20, "the rest of the events")
        self.assertEqual([event["kv"]["key"] for event in watcher.events], [f"k{number}" for number in range(20)])
        watcher.stop()

    async def test_paused_node(self) -> None:
        """A node that stands still tells nothing meanwhile; its watcher goes elsewhere, and back, without a gap."""
        nodes = self.make_cluster()
        leader = self.leader(nodes)
        follower = next(node for node in nodes if node is not leader)
        watcher = Watching([follower, leader], "k")
        leader.set("k1", "v")
        self.wait_until(lambda: len(watcher.events) == 1, "the first event")
        follower.signal(signal.SIGSTOP)
        leader.set("k2", "v")
        self.wait_until(lambda: len(watcher.events) == 2, "the second event, from another node", 15)
        follower.signal(signal.SIGCONT)
        leader.set("k3", "v")
        self.wait_until(lambda: len(watcher.events) == 3, "the third event")
        self.assertEqual([event["kv"]["key"] for event in watcher.events], ["k1", "k2", "k3"])
        watcher.stop()
