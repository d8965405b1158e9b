"""Bytes on disk: ``directory`` makes or finds a data directory, ``storage`` is what the driver uses.

Below it: ``log`` (segments together), ``segment`` and ``record`` (bytes, pure), ``hardstate``, ``meta``, ``files``.
``reading`` gives entries back, ``loading`` is what a start keeps of them.
``disk`` and ``worker`` are production's; their twins are in :mod:`raftkv.testing`. ``calls`` runs blocking functions.
"""
