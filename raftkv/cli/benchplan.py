"""What a run of ``raftkv bench`` is to do: plain values, and sentences about them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from raftkv.bench.specification import Load
from raftkv.bench.target import Target, Via

_WORKS: Final = {
    "put": "puts of {size}",
    "get": "linearizable reads of {size}",
    "get-stale": "stale reads of {size}",
    "mixed": "{reads:.0%} linearizable reads, {writes:.0%} puts of {size}",
}
_INTERFACES: Final = {"native": "RPC", "http": "HTTP", "client": "NativeClient"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is to do.

    :ivar addresses: URLs of nodes, as the user gave them.
    :ivar timeout: seconds for each question beside the load.
    :ivar load: without the addresses, which are the leader's.
    :ivar overwrites: whether keys that are there already are no obstacle.
    :ivar keeps: whether the keys stay.
    """

    addresses: tuple[str, ...]
    timeout: float
    via: Via
    load: Load
    overwrites: bool
    keeps: bool
    as_json: bool

    def urls(self, target: Target) -> tuple[str, ...]:
        """Return where the cluster can be asked, whoever of it may be gone: as given, and as the members say."""
        scheme = urlsplit(self.addresses[0]).scheme
        members = (f"{scheme}://{member.http_addr}" for member in target.members if member.http_addr)
        return tuple(dict.fromkeys((*self.addresses, *members)))

    def sentences(self, target: Target) -> list[tuple[str, str]]:
        """Return what is going to be done, as pairs of a word and what there is to say of it."""
        load = self.load
        first = "" if load.operation == "put" else "written first, "
        return [
            ("cluster", f"{target.cluster_id}, {len(target.members)} member{'s' if len(target.members) > 1 else ''}"),
            ("leader", f"{target.leader} in term {target.term}, at {target.address(self.via)}"),
            ("work", f"{self.work()}, by {_INTERFACES[self.via]}"),
            ("load", self.pressure()),
            ("length", self.length()),
            ("keys", f"{load.keys:,} under {load.prefix!r}, {first}{'kept' if self.keeps else 'deleted afterwards'}"),
        ]

    def cleaning_command(self) -> str:
        """Return what a person types to have what is left deleted, as a shell takes it."""
        words = ["raftkv", "bench", "--clean", "--prefix", self.load.prefix]
        for address in self.addresses:
            words += ["-a", address]
        return shlex.join(words)

    def work(self) -> str:
        """Say what is asked for."""
        load = self.load
        return _WORKS[load.operation].format(size=size(load.value_bytes), reads=load.reads, writes=1 - load.reads)

    def length(self) -> str:
        """Say how long it takes."""
        load = self.load
        if load.requests:
            return f"{load.requests:,} request{'s' if load.requests > 1 else ''}"
        warmup = f", after {load.warmup_seconds:g} s of warm-up" if load.warmup_seconds else ""
        return f"{load.seconds:g} s{warmup}"

    def pressure(self) -> str:
        """Say how hard."""
        load = self.load
        connections = "" if self.via == "client" else f" on {load.connections} connection"
        plural = "s" if connections and load.connections != 1 else ""
        if load.rate:
            return f"{load.rate:,g} a second, at most {load.outstanding:,} outstanding{connections}{plural}"
        return f"{load.outstanding:,} outstanding{connections}{plural}"

    def document(self, target: Target) -> dict[str, Any]:
        """Return it for JSON."""
        load = self.load
        return {
            "cluster_id": target.cluster_id,
            "leader": target.leader,
            "term": target.term,
            "address": target.address(self.via),
            "via": self.via,
            "work": load.operation,
            "reads": load.reads if load.operation == "mixed" else None,
            "rate": load.rate or None,
            "outstanding": load.outstanding,
            "connections": None if self.via == "client" else load.connections,
            "warmup_seconds": 0.0 if load.requests else load.warmup_seconds,
            "value_bytes": load.value_bytes,
            "keys": load.keys,
            "prefix": load.prefix,
        }


def size(count: int) -> str:
    """Return a number of bytes as a person would say it."""
    for unit, name in ((1024 * 1024, "MiB"), (1024, "KiB")):
        if count >= unit and count % (unit // 4) == 0:
            return f"{count / unit:g} {name}"
    return f"{count:,} byte{'s' if count != 1 else ''}"
