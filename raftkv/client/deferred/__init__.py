"""The client for Twisted; programs import it from :mod:`raftkv.client`."""

from raftkv.client.deferred.client import KVClient
from raftkv.client.deferred.holding import Election, Leaders, Leadership, Lease, Lock
from raftkv.client.deferred.iterating import Items, Pages, Watch

__all__ = ["Election", "Items", "KVClient", "Leaders", "Leadership", "Lease", "Lock", "Pages", "Watch"]
