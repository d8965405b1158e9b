"""One node, put together: the same for a process with a real disk and network and for one in a simulation.

``surroundings`` is what differs between the two, and is handed in; ``node`` is the table of contents, from the data
directory to the façade. What it names stands in ``ground`` (what the disk holds), ``heart`` (the core, its driver, the
state and the way to the others), ``requests`` (whoever waits for an answer), ``members``, ``health`` (of disk and
state) and ``chores``; ``later`` is what the first ask of the last. ``repair`` is a node whose log is being made whole.
"""

from raftkv.server.assembly.node import Assembled, assemble
from raftkv.server.assembly.repair import AssembledRepair, assemble_repair
from raftkv.server.assembly.surroundings import Surroundings, TransportFactory

__all__ = ["Assembled", "AssembledRepair", "Surroundings", "TransportFactory", "assemble", "assemble_repair"]
