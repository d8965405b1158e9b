"""What a generator is told, and what it tells. Plain values that travel as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks.arithmetic import percentile

#: Keys are taken in steps of this prime: every key once before one comes again, and neighbours far apart.
STRIDE: Final = 7919


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The order to a generator.

    :ivar generator: which one.
    :ivar protocol: ``rpc``, ``grpc``, ``resp``, ``http``; of ``clients`` whose.
    :ivar addresses: the leader first; connections are spread over them.
    :ivar requests: as many as are made, each on the next key; 0: as long as ``seconds`` says.
    :ivar door: which of several HTTP interfaces.
    """

    generator: str
    protocol: str
    addresses: tuple[str, ...]
    operation: str = "put"
    outstanding: int = 1
    connections: int = 1
    value_bytes: int = 256
    keys: int = 10_000
    warmup_seconds: float = 1.0
    seconds: float = 5.0
    requests: int = 0
    door: str = ""

    def to_json(self) -> str:
        """Return it for the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Load:
        """Read it from the command line."""
        value = json.loads(text)
        value["addresses"] = tuple(value["addresses"])
        return cls(**value)

    def key(self, number: int) -> bytes:
        """Return the key of a request; all have the same length."""
        return b"key%07d" % (number * STRIDE % self.keys)

    @property
    def value(self) -> bytes:
        """What is written: text that JSON takes as it is."""
        return b"v" * self.value_bytes


def figures(latencies: Sequence[float], seconds: float, errors: int) -> dict[str, Any]:
    """Return what was measured.

    :param latencies: of the requests that succeeded, in seconds, in any order.
    :param seconds: in which they were answered.
    """
    ordered = sorted(latencies)
    return {
        "requests": len(ordered),
        "seconds": seconds,
        "per_second": len(ordered) / seconds if seconds else float("nan"),
        "p50_ms": 1000 * percentile(ordered, 0.5),
        "p99_ms": 1000 * percentile(ordered, 0.99),
        "p999_ms": 1000 * percentile(ordered, 0.999),
        "errors": errors,
    }
