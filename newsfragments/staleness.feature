The Python clients tell how old the state may be that a stale read has seen: `get_record(..., consistency="stale")` gives a record with `staleness`, in seconds; the RPC protocol carries it, too.
