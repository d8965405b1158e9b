"""The ``raftkv`` command.

``main`` is the group of all subcommands; ``keys`` reads and writes, ``status`` shows a cluster, ``local`` starts one
on this machine, ``calls`` runs one piece of work with a client.
"""

from raftkv.cli.main import main

__all__ = ["main"]
