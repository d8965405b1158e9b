"""The contestants: how a cluster of each is started, and where which work finds it. A map:

- ``cluster``: what all of them offer to the runs.
- ``raftkv``, ``etcd``, ``redis``, ``pysyncobj``: one each. ``pysyncobj_server`` is the server that PySyncObj, a
  library, does not bring along.
"""

from benchmarks.peers.cluster import Cluster, Peer
from benchmarks.peers.etcd import Etcd
from benchmarks.peers.pysyncobj import PySyncObj
from benchmarks.peers.raftkv import RaftKV
from benchmarks.peers.redis import Redis

PEERS: dict[str, Peer] = {peer.name: peer for peer in (RaftKV(), Etcd(), PySyncObj(), Redis())}

__all__ = ["PEERS", "Cluster", "Peer"]
