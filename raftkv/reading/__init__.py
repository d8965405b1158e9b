"""Reads of many things at once, for whoever serves them: HTTP and the RPC port alike.

- :mod:`~raftkv.reading.ranges`: a range, drawn from the store in small steps at one revision.
- :mod:`~raftkv.reading.opening`: when a range may be read, and from where on.
- :mod:`~raftkv.reading.tokens`: what says where the next page begins.
- :mod:`~raftkv.reading.leases`: what is told of leases.
- :mod:`~raftkv.reading.turns`: steps of many reads, shared out over the turns of the reactor.

Values in and values out: how a question was spelt, and how an answer travels, is left to :mod:`raftkv.web` and
:mod:`raftkv.protocols`.
"""
