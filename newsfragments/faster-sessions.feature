Writes of clients that number them (all but plain HTTP and raw RPC) are applied in a sixth less processor time on every node, where several of one client stand side by side in an entry.
