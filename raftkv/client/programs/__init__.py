"""What the client does over time, written once for all flavours, as coroutines over :mod:`raftkv.client.runtime`.

``engine`` carries out calls and opens streams; on it stand ``paging`` (ranges a page at a time), ``watching`` (a watch
that survives connections and nodes), ``keeping`` (leases kept alive), ``locking`` and ``electing``.
"""
