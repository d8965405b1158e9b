"""Snapshot files: ``files`` is the folder of them, ``taking`` and ``restoring`` work in slices.

Below them: ``format`` (bytes, pure), ``reading`` and ``writing`` (one file), ``slices`` (how much at a time).
``policy`` says when a snapshot is due and what of the log may go; who asks it is the server.
"""
