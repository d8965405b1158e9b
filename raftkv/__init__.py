"""A replicated, linearizable key-value store on Raft, in Python on Twisted."""

__version__ = "0.1.0"
