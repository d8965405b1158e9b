"""The replicated state machine: pure and deterministic, commands in, answers out.

- :mod:`~raftkv.kvstore.commands`: commands and answers as tuples; how a batch of them becomes an entry's payload.
- :mod:`~raftkv.kvstore.checking` and :mod:`~raftkv.kvstore.overlaps`: which commands are let into the log.
- :mod:`~raftkv.kvstore.refusals`: which error an answer stands for.
- :mod:`~raftkv.kvstore.store`: :class:`Store`, which applies entries; :mod:`~raftkv.kvstore.reading`: its read side,
  and :mod:`~raftkv.kvstore.views`: what that returns.
- :mod:`~raftkv.kvstore.records`: the records, their revisions, and what a put or delete makes of them.
- :mod:`~raftkv.kvstore.history`: what each revision changed; :mod:`~raftkv.kvstore.ghosts`: keys that are no more;
  :mod:`~raftkv.kvstore.revisiontimes`: when that was.
- :mod:`~raftkv.kvstore.keys`: the keys in order; :mod:`~raftkv.kvstore.ranges`: pages of them, of now and of the past.
- :mod:`~raftkv.kvstore.transactions` and :mod:`~raftkv.kvstore.counters`: the writes that look before they write.
- :mod:`~raftkv.kvstore.leases`, :mod:`~raftkv.kvstore.locks`: what is held for a time, and by whom;
  :mod:`~raftkv.kvstore.tenures`: the commands about it.
- :mod:`~raftkv.kvstore.sessions`: what each client was answered, so that a repeat is not applied again.
- :mod:`~raftkv.kvstore.digest`: the state in 64 bits, to compare nodes.
- :mod:`~raftkv.kvstore.snapshotting`: the state of one moment as chunks, while writes go on.
- :mod:`~raftkv.kvstore.restoring`: a store out of such chunks; :mod:`~raftkv.kvstore.rewinding`: its history.

It imports the standard library (nothing of it that knows time, chance or the outside), msgpack, google-crc32c and
``raftkv.errors``.
"""

from raftkv.kvstore.keys import prefix_end
from raftkv.kvstore.restoring import Restorer
from raftkv.kvstore.snapshotting import SnapshotError, SnapshotHeader, SnapshotView
from raftkv.kvstore.store import Store

__all__ = ["Restorer", "SnapshotError", "SnapshotHeader", "SnapshotView", "Store", "prefix_end"]
