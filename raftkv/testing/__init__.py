"""Stand-ins for the world, and a whole cluster on virtual time.

For anybody's tests: ``disk`` (a disk in memory that forgets what was not synced), ``worker`` (blocking work on a
virtual clock), ``clock`` (virtual time, with a clock for each process that can drift, pause and die), ``network`` with
``transport`` and ``transfers`` (delays, losses, partitions), ``cluster`` (real nodes on top of all these).

For the proof, what happens: ``workload`` with ``errands`` and ``requests`` (what clients do), ``faults`` (what goes
wrong; ``diskfaults`` and ``excuses`` for disks, ``losses`` and ``beginning`` for those that come back with none,
``churn`` of members, ``corruption`` of states, ``scarcity`` of room), ``simulation`` (one seed, one story; ``drawing``
says of what kind, ``liveness``, ``lasting`` and ``succession`` what must come of it, ``loggedfailures`` what must not,
``outcome`` what did), ``backups`` and ``backupstory`` (the same with backups and archives), ``trace``, and ``coverage``
(how much of it is new).

What is right: ``plainstore`` with ``plainrecords`` (the plain, slow twin of the store), ``sameness`` and ``queries``
(a store against it), ``replay`` (the log of a cluster carried out on it once more), ``keymodel`` (a single key).

Who judges: ``shadow`` and ``checkers`` (Figure 3, watched from outside), ``history`` (what clients saw), ``witness``
(what they were told against the log), ``linearizability`` (single keys, by search), ``ordering`` (everything, by its
place in the log), ``staleness``, ``tenancies`` (leases and locks); ``judging`` asks them all.

``python -m raftkv.testing --seeds 1000`` runs many: ``tally`` adds up what they did, and of those that fail
``shrinking`` finds the smallest ``excerpt`` that still does.
"""
