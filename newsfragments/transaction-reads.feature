A transaction reads at most 4 MiB of keys and values, past which it does nothing and is 413, so that its answer always fits into a message between nodes.
