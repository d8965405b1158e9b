``raftkv bench`` puts load on a running cluster, over RPC, HTTP or the Python client, in a closed loop or at a rate, and shows rate, latencies and errors; it deletes what it wrote.
