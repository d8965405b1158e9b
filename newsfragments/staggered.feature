The nodes of a cluster take their snapshots one after the other, the leader last, in place of all at once.
