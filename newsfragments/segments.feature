``raft.logSegmentBytes`` sets the size of the files that the log is written to.
