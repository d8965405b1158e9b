"""What several tests of the store need: applying commands, and looking at the whole of a state."""

from __future__ import annotations

from collections.abc import Iterable

from raftkv.kvstore import Restorer, Store
from raftkv.kvstore.commands import Command, Result, pack_batch


def apply(store: Store, *batch: Command, at_ms: int = 0) -> list[Result]:
    """Apply commands as the next entry and return their answers."""
    return store.apply(store.applied_index + 1, pack_batch(at_ms, 0, batch))


def snapshot(store: Store) -> list[bytes]:
    """Return all chunks of a snapshot taken at once."""
    return list(store.capture())


def restore(chunks: Iterable[bytes]) -> Store:
    """Return the store that chunks make."""
    restorer = Restorer()
    for chunk in chunks:
        restorer.feed(chunk)
    return restorer.finish()
