"""Stand-ins for the world, and a whole cluster on virtual time.

For anybody's tests: ``disk`` (a disk in memory that forgets what was not synced), ``worker`` (blocking work on a
virtual clock), ``clock`` (virtual time, with a clock for each process that can drift, pause and die), ``network`` with
``transport`` and ``transfers`` (delays, losses, partitions), ``cluster`` (real nodes on top of all these).

For the proof: ``shadow`` and ``checkers`` (Figure 3, watched from outside), ``history``, ``keymodel``,
``linearizability`` and ``witness`` (what clients saw), ``workload`` and ``faults`` (what clients do and what goes
wrong; ``diskfaults`` and ``excuses`` for disks, ``losses`` and ``beginning`` for those that come back with none),
``coverage`` (how much of it is new), ``simulation`` (one seed, one
story), ``trace``. ``python -m raftkv.testing --seeds 1000`` runs many: ``tally`` adds up what they did, and of those
that fail ``shrinking`` finds the smallest ``excerpt`` that still does.
"""
