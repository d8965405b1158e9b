"""Raft traffic between members, on ``raft.bindAddr``.

Every node dials every other member and says what it has to say on its own outgoing connection; incoming ones only
bring. Knows connections, who is at their other end, and how much may wait to be sent; what the messages mean is
Raft's. Losing messages is allowed, waiting is not: what cannot be sent now is dropped, and the receiver is told once.

``service`` owns the port and all connections; ``links`` are ours to the other members, each as in ``outgoing``;
``incoming`` is what others say to us; ``acquaintances`` knows who the members are and where they can be reached.
"""

from raftkv.protocols.peer.service import PeerService
from raftkv.protocols.peer.settings import PeerSettings

__all__ = ["PeerService", "PeerSettings"]
