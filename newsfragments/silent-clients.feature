An HTTP client whose machine went away without closing its connection is noticed within a minute, and gives up its place in the queue of a lock.
