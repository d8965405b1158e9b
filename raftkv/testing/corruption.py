"""A node's state is changed behind its back, as by a bug that only one node has, or by its memory: its log stays right.

One node at a time, so that there is always a majority that is right. The others have to find out by the digest, and
the node to fetch the right state; whether it does is for the story to demand, and what it serves once it knows is for
the clients to see. Until then what it serves cannot be right, and is excused: a value that is put in place of another
bears a name by which it is known.
"""

from __future__ import annotations

import random
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final

from raftkv.kvstore import Store, digest
from raftkv.testing.cluster import SimulatedCluster
from raftkv.testing.history import History, Operation
from raftkv.testing.trouble import Trouble

POISON: Final = b"poison"  #: how every wrong value begins
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptionSettings:
    """How often it happens.

    :ivar pause_seconds: mean time between two; 0 for never.
    """

    pause_seconds: float


class Corruption(Trouble):
    """Changes states of one cluster; counts how often one was found to be right again, too."""

    NUMBERED_FROM = 3000
    KINDS = ("stray_key", "stray_value")

    def __init__(
        self,
        cluster: SimulatedCluster,
        *,
        random: random.Random,
        settings: CorruptionSettings,
        without: Container[int] = (),
    ) -> None:
        super().__init__(cluster, random=random, pause_seconds=settings.pause_seconds, without=without)
        self._poisoned = 0
        self._wrong_since: dict[str, int] = {}  # the index that each suspect's state was at

    def start(self) -> None:
        """Begin."""
        if self._pause_seconds:
            # Who is out for good could not be outvoted.
            self._cluster.excuses.bits_may_flip = False
            self._next()
            self._look()

    @property
    def is_undone(self) -> bool:
        """Whether every node is known to hold the right state, and serves it."""
        if self._cluster.checkers.suspects:
            return False
        lives = [node.life for node in self._cluster.nodes.values() if node.life is not None]
        return not any(life.replica is not None and life.replica.fence.alarms() for life in lives)

    def _begin(self, number: int, kind: str, chance: random.Random) -> None:
        name, kind = chance.choice(self._cluster.names), chance.choice(self.KINDS)
        if not self._cluster.checkers.suspects and self._corrupt(name, kind, chance):
            self._tell(number, kind)

    def _corrupt(self, name: str, kind: str, chance: random.Random) -> bool:
        """Change the state of a node; return whether there was one to change."""
        life = self._cluster.nodes[name].life
        if life is None or life.is_over or life.replica is None or life.replica.state_machine.is_restoring:
            return False
        store = life.replica.state_machine.store
        self._poisoned += 1
        value = POISON + b" of %s %d" % (name.encode(), self._poisoned)
        is_done = put_stray_key(store, value) if kind == "stray_key" else put_stray_value(store, value, chance)
        if is_done:
            self._count(kind)
            self._cluster.trace.note(f"corrupt {name} {kind} at {store.applied_index}")
            self._cluster.checkers.states.distrust(name)
            self._wrong_since[name] = store.applied_index
        return is_done

    def _look(self) -> None:
        """Trust a suspect again once the product does: by a note that was taken since."""
        for name in sorted(self._cluster.checkers.suspects):
            life = self._cluster.nodes[name].life
            replica = life.replica if life is not None else None
            if replica is None or replica.fence.is_fenced or replica.fence.agreed_index <= self._wrong_since[name]:
                continue
            self._count("states right again")
            self._cluster.checkers.states.state_is_right(
                name, replica.state_machine.store, as_of=replica.fence.agreed_index
            )
        self._cluster.clock.callLater(_LOOK_SECONDS, self._look)

    def excuse(self, operations: Iterable[Operation]) -> History:
        """Return the history without the reads of wrong values; what served them did not know yet.

        Whoever does know and serves has broken the rule in that moment, see ``workload``.
        """
        excused = History()
        for operation in operations:
            is_poisoned = operation.record is not None and operation.record[0].startswith(POISON)
            if is_poisoned or operation.is_excused:
                self._count("wrong reads excused")
            else:
                excused.add(operation)
        return excused


def put_stray_key(store: Store, value: bytes) -> bool:
    """Let a store have a key that nobody wrote; nobody reads it either."""
    records, key = store._records, b"stray " + value
    if records._captured_revision >= 0:
        return False  # a snapshot on its way would be neither of the one state nor of the other
    revision = max(records.revision, 1)
    record = (value, revision, revision, 1, 0)
    records.weight += digest.token(key) * digest.weight(record)
    records._by_key[key] = record
    records._keys.add(key)
    return True


def put_stray_value(store: Store, value: bytes, chance: random.Random) -> bool:
    """Let a key of a store have a value that nobody wrote."""
    records = store._records
    keys = [key for key in sorted(records._by_key) if not key.startswith(b"stray")]
    if records._captured_revision >= 0 or not keys:
        return False
    key = chance.choice(keys)
    old = records._by_key[key]
    new = (value, *old[1:])
    records.weight += digest.token(key) * (digest.weight(new) - digest.weight(old))
    records._by_key[key] = new
    return True


def draw_corruption(chance: random.Random, *, members_change: bool) -> tuple[int, CorruptionSettings]:
    """Draw how often states are changed, in some of the runs whose members stay who they are.

    :return: the interval of the notes, 0 for the usual one, and the settings.
    """
    if members_change or chance.random() < 0.6:
        return 0, CorruptionSettings(pause_seconds=0.0)
    return chance.choice((8, 16, 40)), CorruptionSettings(pause_seconds=chance.choice((3.0, 6.0)))
