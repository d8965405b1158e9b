"""Rules of the key-value model that are broken in a node, and what finds out about it.

A rule that only the store breaks is found by the plain store. Those that say what leases and locks promise are broken
in both, as if they had been misunderstood from the beginning: then the judge must find it that has no model.
"""

from __future__ import annotations

from typing import Any

from raftkv.interfaces import Command, Result
from raftkv.kvstore.commands import FENCED, LOCK_NOT_HELD, OK
from raftkv.kvstore.leases import Leases
from raftkv.kvstore.records import Records
from raftkv.kvstore.store import Store
from raftkv.kvstore.tenures import Tenures
from raftkv.server import housekeeping
from raftkv.server.clustertime import ClusterClock
from raftkv.testing import simulation
from raftkv.testing.errands import MIXES
from raftkv.testing.plainrecords import PlainRecords
from raftkv.testing.plainstore import PlainStore
from raftkv.testing.workload import WorkloadSettings
from tests.simulation.test_bite import BiteTestCase


class ModelBiteTests(BiteTestCase):
    """One broken rule each."""

    def mix(self, number: int) -> None:
        """Let the clients have this character."""

        def draw_errands(chance: Any, settings: WorkloadSettings) -> WorkloadSettings:
            return WorkloadSettings(
                clients=settings.clients,
                think_seconds=settings.think_seconds,
                patience_seconds=settings.patience_seconds,
                attempts=settings.attempts,
                session_share=settings.session_share,
                errand_share=0.8,
                mix=MIXES[number],
            )

        self.patch(simulation, "draw_errands", draw_errands)

    def test_wrong_past(self) -> None:
        """A store that shows the present in place of the past is found (B33)."""
        self.patch(Records, "get_at", lambda records, key, revision: records.get(key))
        self.mix(2)
        self.assert_caught("wrong read", "wrong result", "wrong state")

    def test_compacted_and_read(self) -> None:
        """A store that reads what it still has of a compacted revision is found."""
        self.patch(Store, "_check_revision", lambda store, revision: None)
        self.mix(2)
        self.assert_caught("wrong read", "LookupError")

    def test_leases_end_early(self) -> None:
        """Leases that count as ended when half of their time has passed are found, though all agree (B34)."""

        def is_alive(leases: Leases, number: int, now_ms: int) -> bool:
            lease = leases.get(number)
            return lease is not None and lease[1] - lease[0] // 2 > now_ms

        def plainly_alive(plain: PlainRecords, number: int) -> bool:
            lease = plain.leases.get(number)
            return lease is not None and lease[1] - lease[0] // 2 > plain.cluster_time_ms

        self.patch(Leases, "is_alive", is_alive)
        self.patch(PlainRecords, "is_alive", plainly_alive)
        self.mix(1)
        self.assert_caught("lease ended early", "lock exclusion")

    def test_late_keepalives(self) -> None:
        """Leases that can be renewed for as long as nobody has ended them are found, though all agree (B37)."""
        self.patch(Leases, "is_alive", lambda leases, number, now_ms: leases.get(number) is not None)
        self.patch(PlainRecords, "is_alive", lambda plain, number: number in plain.leases)
        self.mix(1)
        self.assert_caught("lease outlives its time")

    def test_cluster_time_runs_ahead(self) -> None:
        """A cluster time that runs faster than any clock ends leases under their holders' hands (B34, B36)."""
        honest = ClusterClock.now_ms

        def now_ms(clock: ClusterClock) -> int:
            return max(clock._applied_ms(), clock._base_ms + 3 * (honest(clock) - clock._base_ms))

        self.patch(ClusterClock, "now_ms", now_ms)
        self.mix(1)
        self.assert_caught("lease ended early")

    def test_nobody_tells_the_time(self) -> None:
        """Leaders that do not tell the log the time never end a lease, if each hands over soon enough (B36)."""
        self.patch(housekeeping, "_TIME_MARK_MS", 10**9)
        self.mix(1)
        self.assert_caught("liveness", start=185)

    def test_lock_taken_away(self) -> None:
        """Locks that whoever asks for them is given are found, though all agree (B62)."""

        def free(tenures: Tenures, name: bytes, now_ms: int) -> None:
            while (holder := tenures.locks.first(name)) is not None:
                tenures._leave(holder[0], now_ms)

        def evict(plain: PlainStore, name: bytes) -> None:
            while plain.queues.get(name):
                plain._leave(name, plain.queues[name][0].number)

        self.patch(Tenures, "_free_if_due", free)
        self.patch(PlainStore, "_evict", evict)
        self.mix(1)
        self.assert_caught("lock exclusion", "lease ended early")

    def test_fence_let_down(self) -> None:
        """A fence that lets every token pass is found, though all agree (B62)."""
        honest = PlainStore._about_tenures

        def about_tenures(plain: PlainStore, command: Command) -> Result:
            return plain._write(command[4]) if command[0] == FENCED else honest(plain, command)

        self.patch(Tenures, "against_fence", lambda tenures, name, token, now_ms: None)
        self.patch(PlainStore, "_about_tenures", about_tenures)
        self.mix(1)
        self.assert_caught("fenced write of a former holder")

    def test_unfair_queue(self) -> None:
        """A lock that the last who asked is given first is found (B62)."""
        honest = Tenures._take

        def take(tenures: Tenures, number: int, now_ms: int) -> None:
            ticket = tenures.locks.get(number)
            if ticket is not None:
                queue = tenures.locks._by_name[ticket.name]
                queue.sort(reverse=True)
                number = queue[0]
            honest(tenures, number, now_ms)

        self.patch(Tenures, "_take", take)
        self.mix(1)
        self.assert_caught("wrong result", "wrong state")

    def test_refused_release(self) -> None:
        """A state machine that answers a refusal in place of what it did is found."""
        honest = Tenures.unlock

        def unlock(tenures: Tenures, command: Command, now_ms: int) -> Result:
            result = honest(tenures, command, now_ms)
            return (LOCK_NOT_HELD, 0) if result[0] == OK and result[2] else result

        self.patch(Tenures, "unlock", unlock)
        self.mix(1)
        self.assert_caught("wrong result")
