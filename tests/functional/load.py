"""Writers that note what was acknowledged, so that it can be looked for afterwards."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
