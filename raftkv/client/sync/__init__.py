"""The client that blocks, for scripts and for programs with threads; nothing of Twisted is imported.

The same calls, results and errors as those of :mod:`raftkv.client`; they return when they are done.
"""

from raftkv.client.sync.client import KVClient
from raftkv.client.sync.holding import Election, Leaders, Leadership, Lease, Lock
from raftkv.client.sync.iterating import Items, Pages, Watch

__all__ = ["Election", "Items", "KVClient", "Leaders", "Leadership", "Lease", "Lock", "Pages", "Watch"]
