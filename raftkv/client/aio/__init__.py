"""The client for asyncio, for programs that do not run Twisted's reactor; nothing of Twisted is imported.

The same calls, results and errors as those of :mod:`raftkv.client`, as coroutines.
"""

from raftkv.client.aio.client import KVClient
from raftkv.client.aio.holding import Election, Leaders, Leadership, Lease, Lock
from raftkv.client.aio.iterating import Items, Pages, Watch

__all__ = ["Election", "Items", "KVClient", "Leaders", "Leadership", "Lease", "Lock", "Pages", "Watch"]
