"""The generator of load, and what surrounds it when it loads somebody's own cluster. A map:

- ``specification``: what a generator is told.
- ``closed``: so many requests outstanding over raw ``link``s, in one of the ``conversations``
  (raftkv's RPC, or ``http``); ``evenpace`` sends them at a rate instead, whatever the answers do.
- ``native``: the same load by :class:`raftkv.client.NativeClient`, with its ``tally``.
- ``figures``: latencies and percentiles; ``latencies`` are the same in bounded memory, for long runs.
- ``overseer``: who hears how a load goes, and may redirect or end it; ``process`` is that over pipes, from both ends,
  so that the generator (``python -m raftkv.bench``) does nothing but load.
- ``target``: which cluster, who leads it, who leads it now; ``sweeping``: the keys that a load leaves;
  ``results``: what has come of it.

``benchmarks/`` uses the same generators to compare raftkv with others.
"""
