``raftkv snapshot restore FILE --config node.yaml`` makes the data directories of a new cluster from a backup, one command
for each node. The new cluster has an id of its own, and goes on at a revision that the old one never had: whoever watches
from an old one is told ``compacted``. ``raftkv snapshot status FILE`` says what a backup is, having checked every byte, and
``raftkv snapshot save FILE`` fetches one from a running cluster. With ``--archive DIR`` and ``--to-revision`` or
``--to-time`` archived entries are replayed on a backup.
