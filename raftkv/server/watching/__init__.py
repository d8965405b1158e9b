"""Watches: whoever wants to know what changes is told, from the history of the store.

- :mod:`~raftkv.server.watching.hub`: :class:`Watches`, all of them, and where each stands.
- :mod:`~raftkv.server.watching.index`: who is concerned by a change; :mod:`~raftkv.server.watching.ranges` for ranges
  that are no prefixes.
- :mod:`~raftkv.server.watching.fresh`: telling those that are up to date what was just applied.
- :mod:`~raftkv.server.watching.catchup`: telling those that are behind.
- :mod:`~raftkv.server.watching.heartbeats`: when to look at a watch again.
- :mod:`~raftkv.server.watching.watch`: one watch.

What both ends of a watch share is in :mod:`raftkv.watches`.
"""

from raftkv.server.watching.hub import Watches, WatchLimits

__all__ = ["WatchLimits", "Watches"]
