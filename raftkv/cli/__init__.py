"""The ``raftkv`` command.

``main`` is the group of all subcommands; ``keys`` reads and writes, ``status`` shows a cluster, ``local`` starts one
on this machine, ``calls`` runs one piece of work with a client. ``bench`` loads a cluster with :mod:`raftkv.bench`:
``benchplan`` is what it is to do, ``benchrun`` does it, ``benchview`` tells it.
"""

from raftkv.cli.main import main

__all__ = ["main"]
