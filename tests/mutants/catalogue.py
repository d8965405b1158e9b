"""All mutants, in the order in which a reader of the paper meets their rules."""

from __future__ import annotations

from tests.mutants import (
    backups,
    disasters,
    durability,
    elections,
    incarnations,
    key_value,
    leadership,
    leases,
    membership,
    memory,
    past,
    reads,
    repairs,
    replication,
    room,
    services,
    snapshots,
    state_machine,
    states,
    tenures,
    transactions,
    watch,
)
from tests.mutants.mutant import Mutant

#: What each part of the package is tested by, beside the simulation.
SUITES: dict[str, tuple[str, ...]] = {
    "raft": ("tests.raft", "tests.interaction"),
    "kvstore": ("tests.kvstore",),
    "membership": ("tests.membership",),
    "persistence": ("tests.persistence",),
    "snapshot": ("tests.snapshot",),
    "protocols": ("tests.protocols",),
    "server": ("tests.server",),
    "web": ("tests.web",),
    "daemon": ("tests.daemon",),
    "client": ("tests.client",),
}

CHAPTERS: dict[str, tuple[Mutant, ...]] = {
    "Elections": elections.MUTANTS,
    "Replication and commitment": replication.MUTANTS,
    "Leadership and membership": leadership.MUTANTS,
    "Disks that are lost": incarnations.MUTANTS,
    "Changes of the members": membership.MUTANTS,
    "Reads": reads.MUTANTS,
    "Leases and stale reads": leases.MUTANTS,
    "The disk": durability.MUTANTS,
    "Damaged logs": repairs.MUTANTS,
    "Memory": memory.MUTANTS,
    "Room on the disk": room.MUTANTS,
    "Snapshots": snapshots.MUTANTS,
    "Backups and archives": backups.MUTANTS,
    "Disasters": disasters.MUTANTS,
    "The state machine": state_machine.MUTANTS,
    "The key-value model": key_value.MUTANTS,
    "The past": past.MUTANTS,
    "Transactions and counters": transactions.MUTANTS,
    "Leases, locks, elections": tenures.MUTANTS,
    "Watches": watch.MUTANTS,
    "The digest of the state": states.MUTANTS,
    "Services": services.MUTANTS,
}

MUTANTS: tuple[Mutant, ...] = tuple(mutant for chapter in CHAPTERS.values() for mutant in chapter)
