``raft.archiveDir``: committed entries of the log are written to files in a directory of the operator's, within
``raft.archiveInterval`` and before compaction drops them, so that a cluster can be made anew as of any revision or time. An
archive that cannot be written stops nothing: it is an alarm (``archive_failed``, ``archive_behind``, ``archive_gap``), and the
log waits for it up to ``raft.archiveMaxLag``. ``POST /v1/archive`` archives everything at once.
