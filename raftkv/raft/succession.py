"""Who should lead after this leader (thesis 3.10). Knows the others' progress, and nothing of how it is handed over."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from raftkv.raft.progress import Progress
from raftkv.raft.room import Room


def best_successor(
    peers: Mapping[str, Progress], voters: AbstractSet[str], *, patience_ticks: int, roomier_than: Room | None = None
) -> str | None:
    """Return the voter whose log is the most advanced; of equal ones the one heard last, then the first by id.

    One that was not heard for an election timeout comes after all that were, then one with less room on its disk.

    :param patience_ticks: an election timeout.
    :param roomier_than: asks for one that was heard, and has said that its disk has more room than this.
    :return: ``None`` where there is nobody.
    """

    def is_silent(progress: Progress) -> bool:
        return progress.ticks_since_contact >= patience_ticks

    def is_roomier(progress: Progress) -> bool:
        if roomier_than is None:
            return True
        return progress.room is not None and progress.room < roomier_than and not is_silent(progress)

    def order(peer: str) -> tuple[Any, ...]:
        progress = peers[peer]
        room = progress.room or Room.AMPLE
        return (is_silent(progress), room, -progress.match_index, progress.ticks_since_contact, peer)

    return min(
        (peer for peer, progress in peers.items() if peer in voters and is_roomier(progress)), key=order, default=None
    )
