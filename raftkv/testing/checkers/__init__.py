"""Figure 3 of the Raft paper, and what else must hold at every moment, checked from outside while a cluster runs.

The checkers are told of each start, each write, each finished sync and each message, and look at a node after each of
its events; they do only work that is proportional to what changed. They know the core's messages and nothing of how a
node is built. What clients saw is judged elsewhere (:mod:`raftkv.testing.linearizability`).

``checkers`` is what is told; ``observed`` is what is remembered, and the rest are the rules, by what they are about.
"""

from raftkv.testing.checkers.checkers import Checkers
from raftkv.testing.checkers.observed import NodeView, StateView
from raftkv.testing.checkers.violation import Violation

__all__ = ["Checkers", "NodeView", "StateView", "Violation"]
