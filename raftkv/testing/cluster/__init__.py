"""A whole cluster in one process, on virtual time: real nodes over simulated disks, a simulated network and clocks.

``cluster`` starts, stops, kills, pauses and restarts nodes, and shows all they do to the checkers; ``settings`` is its
shape, ``machine`` one node of it with its disk, ``equipment`` what that node is told and given, ``storage`` where the
checkers look on; ``repairing`` and ``givingup`` are what becomes of damaged logs and of errors. What goes wrong when is
drawn elsewhere (:mod:`raftkv.testing.faults`); how a node is put together is the product's own business: the
composition is a callable that is handed in.
"""

from raftkv.testing.cluster.cluster import Composition, SimulatedCluster
from raftkv.testing.cluster.machine import Life, SimulatedNode
from raftkv.testing.cluster.settings import ClusterSettings

__all__ = ["ClusterSettings", "Composition", "Life", "SimulatedCluster", "SimulatedNode"]
