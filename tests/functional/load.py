"""Clients that note what was acknowledged and what was read, so that it can be judged afterwards."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from twisted.internet.defer import Deferred, gatherResults

from raftkv.client import KVClient
from raftkv.errors import RaftKVError
from tests.functional.processes import Node


class Load:
    """Concurrent writers over HTTP, each of which writes one new key after the other.

    :ivar acknowledged: value by key, of every write that was answered with success.
    :ivar failed: how many writes ended with an error.
    """

    def __init__(self, nodes: Sequence[Node], *, writers: int = 8) -> None:
        # The nodes in another order for each half of the writers, so that some begin with a follower.
        urls = [node.url for node in nodes]
        self._clients = [KVClient(urls[shift:] + urls[:shift], timeout=20.0) for shift in range(len(urls))]
        self._stopping = False
        self.acknowledged: dict[str, str] = {}
        self.failed = 0
        self._times: list[float] = []
        self._done = [Deferred.fromCoroutine(self._write(number)) for number in range(writers)]

    async def _write(self, number: int) -> None:
        client = self._clients[number % len(self._clients)]
        count = 0
        while not self._stopping:
            key, value = f"load/{number}/{count}", f"value {count}"
            try:
                await client.set(key, value)
            except RaftKVError:
                self.failed += 1  # its outcome may be unknown: it is then neither expected nor forbidden
            else:
                self.acknowledged[key] = value
                self._times.append(time.monotonic())
            count += 1

    def longest_pause_since(self, moment: float) -> float:
        """Return the longest time without an acknowledgement after a moment, in seconds."""
        times = [moment, *(at for at in self._times if at >= moment)]
        return max((later - earlier for earlier, later in pairwise(times)), default=float("inf"))

    def acknowledged_since(self, moment: float) -> int:
        """Return how many writes were acknowledged after a moment."""
        return sum(at >= moment for at in self._times)

    async def stop(self) -> None:
        """Let the writes under way come to their end."""
        self._stopping = True
        await gatherResults(self._done)
        for client in self._clients:
            await client.close()


class Register:
    """One key that one writer counts up, and readers that ask every node in turn and must never see it go back.

    With a single writer the order of the values is that of time, so that a linearizable read can be judged at once: it
    sees no less than what was acknowledged, or read by anybody, before it began, and no more than what was sent.

    :ivar wrong: what readers saw and must not have seen.
    :ivar reads: how many reads were answered.
    """

    def __init__(self, nodes: Callable[[], Sequence[Node]], *, readers: int = 2) -> None:
        """
        :param nodes: returns the nodes that are to be asked at the moment.
        """
        self._nodes = nodes
        self._clients: dict[str, KVClient] = {}
        self._stopping = False
        self._sent = self._known = 0
        self.wrong: list[str] = []
        self.reads = 0
        self._done = [Deferred.fromCoroutine(self._write())]
        self._done += [Deferred.fromCoroutine(self._read(number)) for number in range(readers)]

    def _client(self, turn: int) -> tuple[str, KVClient]:
        nodes = self._nodes()
        node = nodes[turn % len(nodes)]
        if node.url not in self._clients:
            self._clients[node.url] = KVClient(node.url, follow_leader=False, timeout=3.0)
        return node.name, self._clients[node.url]

    async def _write(self) -> None:
        while not self._stopping:
            value = self._sent + 1
            self._sent = value
            turn = value
            while True:
                try:
                    # The same value again where the outcome is unknown: the next one may only follow it.
                    await self._client(turn)[1].set("register", str(value))
                except RaftKVError:
                    turn += 1
                    if self._stopping:
                        return
                else:
                    self._known = max(self._known, value)
                    break

    async def _read(self, number: int) -> None:
        turn = number
        while not self._stopping:
            turn += 1
            at_least = self._known
            name, client = self._client(turn)
            try:
                found = int(await client.get("register") or 0)
            except RaftKVError:
                continue
            self.reads += 1
            if not at_least <= found <= self._sent:
                self.wrong.append(f"{name} read {found}; {at_least} was known before, {self._sent} is the newest")
            self._known = max(self._known, found)

    async def stop(self) -> None:
        """Let what is under way come to its end."""
        self._stopping = True
        await gatherResults(self._done)
        for client in self._clients.values():
            await client.close()


class PlainWriter(threading.Thread):
    """A client that knows one node and tries nothing again.

    :ivar times: when each write was acknowledged.
    :ivar failed: every other answer, and every connection that ended without one.
    :ivar refused: attempts to connect that were refused: nothing was sent.
    """

    def __init__(self, node: Node, number: int) -> None:
        super().__init__(daemon=True)
        self._node = node
        self._number = number
        self._stopping = False
        self.times: list[float] = []
        self.failed: list[str] = []
        self.refused = 0
        self.start()

    def run(self) -> None:
        """Write until told to stop."""
        connection: http.client.HTTPConnection | None = None
        count = 0
        while not self._stopping:
            count += 1
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._node.http_port, timeout=10)
                    connection.connect()
                body = json.dumps({"key": f"plain/{self._node.name}/{self._number}", "value": str(count)})
                connection.request("POST", "/set", body)
                answer = connection.getresponse()
                content = answer.read()
            except ConnectionRefusedError:
                self.refused += 1
                connection = None
                time.sleep(0.05)
                continue
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(f"{self._node.name}: {error!r}")
                connection = None
                continue
            if answer.status == 200:
                self.times.append(time.monotonic())
            else:
                self.failed.append(f"{self._node.name}: {answer.status} {content!r}")
            if answer.will_close:
                connection.close()
                connection = None

    def pause_since(self, moment: float) -> float:
        """Return the longest time without an acknowledgement after a moment, in seconds."""
        times = [moment, *(at for at in self.times if at >= moment)]
        return max((later - earlier for earlier, later in pairwise(times)), default=float("inf"))

    def stop(self) -> None:
        """End after the write that is under way."""
        self._stopping = True
        self.join(15)
