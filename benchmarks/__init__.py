"""Comparisons with others, and studies of single parts. A map:

``python -m benchmarks`` (or ``make bench``) compares raftkv with its peers: ``works`` are what is measured, ``peers``
the contestants, ``load`` the generators; ``runs`` carries one work out against one contestant, ``processes`` watches
the servers, ``results`` makes lines of samples by ``arithmetic``, ``report`` and ``chart`` show them.

The studies stand alone, each a command of its own, and decisions in the manual rest upon them: ``http_lanes``,
``log_append``, ``ordered_keys``, ``reactor_pause`` (with ``pauses``).
"""
