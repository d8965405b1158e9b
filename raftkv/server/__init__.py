"""The services around the core, from the inside out.

``driver`` feeds the Raft node and carries out its ``Ready``; ``statemachine`` applies what is committed; ``proposals``
and ``reads`` hold whoever waits for a write or a read, ``tickets`` whoever waits for a lock; ``snapshotter`` decides
when state is written out and the log compacted; ``replica`` is the façade of all of it; ``assembly`` puts one together.
``clustertime`` stamps entries, ``services`` starts and stops things in order.
"""
