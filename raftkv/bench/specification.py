"""What a generator of load is told. Plain values that travel as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Final

#: Keys are taken in steps of this prime: every key once before one comes again, and neighbours far apart.
STRIDE: Final = 7919
_OTHER_STRIDE: Final = 7907  # where the number of keys is a multiple of the first
_MIX: Final = (
    9973  # requests after which a mix repeats; a prime, so that it is not the same keys that are written each time
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The order to a generator.

    :ivar generator: which one.
    :ivar protocol: which protocol it speaks: ``rpc`` or ``http``; ``benchmarks`` knows more.
    :ivar addresses: ``host:port``; the leader first; connections are spread over them.
    :ivar others: addresses to turn to, by and by, where a connection to those is lost and cannot be made again.
    :ivar operation: ``put``, ``get``, ``get-stale`` or ``mixed``.
    :ivar reads: which part of a mixed load are linearizable reads; the others are puts.
    :ivar rate: requests per second, sent when they are due, and at most ``outstanding`` at once; their latency counts
        from the time when they were due. 0: each answer makes room for the next request.
    :ivar requests: as many as are made, each on the next key, without a warm-up; 0: as long as ``seconds`` says.
    :ivar door: which of several HTTP interfaces; those that are not ``/v1/kv/`` are known to ``benchmarks``.
    :ivar prefix: what all keys begin with.
    :ivar reconnects: whether a connection that is lost, or silent for ``answer_seconds``, is an error of the requests
        on it alone; else it is the end of the generator.
    """

    generator: str
    protocol: str
    addresses: tuple[str, ...]
    others: tuple[str, ...] = ()
    operation: str = "put"
    reads: float = 0.0
    outstanding: int = 1
    connections: int = 1
    value_bytes: int = 256
    keys: int = 10_000
    warmup_seconds: float = 1.0
    seconds: float = 5.0
    rate: float = 0.0
    requests: int = 0
    door: str = ""
    prefix: str = ""
    reconnects: bool = False
    answer_seconds: float = 10.0

    def to_json(self) -> str:
        """Return it for the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Load:
        """Read it from the command line."""
        value = json.loads(text)
        value["addresses"] = tuple(value["addresses"])
        value["others"] = tuple(value["others"])
        return cls(**value)

    def key(self, number: int) -> bytes:
        """Return the key of a request; all have the same length."""
        stride = STRIDE if self.keys % STRIDE else _OTHER_STRIDE
        return b"%bkey%07d" % (self.prefix.encode(), number * stride % self.keys)

    def key_stream(self) -> Iterator[bytes]:
        """Return the keys of the requests, in order; endless, unless the requests are counted."""
        endless = cycle([self.key(number) for number in range(self.keys)])
        return islice(endless, self.requests) if self.requests else endless

    @property
    def value(self) -> bytes:
        """What is written: text that JSON takes as it is."""
        return b"v" * self.value_bytes

    def mix(self) -> Iterator[bool]:
        """Return, without an end, whether each request of a mixed load is a read: spread evenly, and repeatable."""
        reads = self.reads
        return cycle([math.floor((n + 1) * reads) > math.floor(n * reads) for n in range(_MIX)])


def is_key_of_ours(key: str, prefix: str) -> bool:
    """Tell whether a load with this prefix would have such a key."""
    name = key.removeprefix(f"{prefix}key")
    return len(key) - len(name) == len(prefix) + 3 and len(name) == 7 and name.isascii() and name.isdigit()
