"""Nodes that give up because of an error: those with an excuse start again, and those that must give up do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftkv.testing.checkers import Violation
from raftkv.testing.cluster.machine import Life
from raftkv.testing.excuses import STOP_SECONDS, can_be_borne

if TYPE_CHECKING:
    from raftkv.testing.cluster.cluster import SimulatedCluster

STOPPING_SECONDS: Final = 0.03  #: what a process that gives up takes to end; what it has said by then is on its way


class GivingUp:
    """Sees to the errors of one cluster's nodes and disks."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster

    def stopped_by(self, name: str, error: BaseException) -> None:
        """A node gives up because of an error: it is excused, or the story has failed."""
        self._cluster.trace.note(f"fatal {name} {type(error).__name__}")
        life = self._cluster.nodes[name].life
        if life is None or life.is_over:
            return
        excuses, capacity_bytes = self._cluster.excuses, self._cluster.nodes[name].disk.capacity_bytes
        # Before it serves it may not have been able to keep anything in reserve.
        is_wrong = life.replica is not None and excuses.must_have_had_room(name, error, capacity_bytes)
        if is_wrong or not excuses.takes(name, error, disk_errors=life.disk_errors):
            if self._cluster.failure is None:
                self._cluster.failure = error
            return
        life.is_over = True
        self._cluster.clock.callLater(STOPPING_SECONDS, self._bury, name, life)

    def _bury(self, name: str, life: Life) -> None:
        """End the life of a node that has given up; the supervisor starts it again after a while."""
        if self._cluster.nodes[name].life is life:
            self._cluster.crash(name, power_loss=self._cluster.random.random() < 0.5)
            self._cluster.clock.callLater(self._cluster.random.uniform(0.1, 3.0), self._cluster.start, name)

    def disk_error(self, name: str, life: Life, operation: str, file: str, code: int) -> None:
        """A disk has raised an error in one of its node's lives, with this code of the operating system."""
        self._cluster.trace.note(f"disk error {name} {operation} {file}")
        life.disk_errors += 1
        if operation == "read" and life.replica is None:
            return  # a start that cannot read its log repairs it
        if can_be_borne(operation, file, code):
            return
        self._cluster.clock.callLater(STOP_SECONDS, self._must_have_stopped, name, life, f"{operation} of {file}")

    def _must_have_stopped(self, name: str, life: Life, what: str) -> None:
        """A node that met an error of its disk must not go on, as soon as it has heard of it (B43)."""
        if self._cluster.nodes[name].life is not life:
            return
        if life.clock.is_paused or any(worker.is_stalled for worker in life.workers):
            self._cluster.clock.callLater(STOP_SECONDS, self._must_have_stopped, name, life, what)
        else:
            raise Violation("disk error believed", f"{name} goes on after a failed {what}")
