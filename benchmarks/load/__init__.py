"""The generators of load, in processes of their own. A map:

- ``closed``: keeps so many requests outstanding over raw sockets, in any of the ``conversations``, as lean as can be.
  The loop is :mod:`raftkv.bench`'s, and so are raftkv's own protocol and its HTTP: ``raftkv bench`` is the same one.
- ``conversations``: the other protocols of which it knows just enough: Redis'; ``grpc`` has etcd's.
- ``paced``: a write every so often, whatever happens, to see when they succeed again.
- ``clients``: what a Python program would use: each contestant's own asynchronous client.
- ``wrk``: HTTP by ``wrk``; ``doors`` are the requests of each HTTP interface.

``python -m benchmarks.load SPECIFICATION`` runs one of them: it prints ``begin`` on a line by itself when the warm-up
is over, and its figures as JSON on the last one.
"""
