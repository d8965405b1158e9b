``make bench`` compares raftkv with etcd, PySyncObj and Redis on the same machine, works in turn, and writes a table, JSON and a chart.
