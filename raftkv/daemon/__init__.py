"""What raftkv asks of the process that it runs in, under twistd.

``logs`` decides where lines go and which; ``pidfile`` keeps the process id; ``ports`` takes listening sockets before
the process forks; ``process`` holds time, signals, the exit status and the interpreter's knobs; ``collector`` keeps the
garbage collector's passes short. Nothing here knows Raft; :mod:`raftkv.composition` puts it together.
"""
