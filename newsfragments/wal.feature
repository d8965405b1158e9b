``raftkv wal check DIR`` and ``raftkv wal dump DIR`` tell what is in the log of a stopped node (ranges, terms, vote,
snapshots) and where it is damaged, with ``--json`` for programs; nothing is changed.
