"""Raft as pure values: no clock, no disk, no socket, no Twisted.

===================== ==============================================================================================
``node``              :class:`RaftNode`, the only entrance: terms, roles, ``Ready``
``messages``          what members say to each other; entries, hard state, snapshot meta
``ready``             the contract with the driver
``state``             what every server knows (Figure 2), shared by the parts below
``election``          the timer, the ballot, whom to vote for
``follower``          the consistency check, repair of conflicts, snapshots
``leadership``        proposals, commitment, reads and transfer, for one term of one leader
``replication``       what each peer is sent, and what its answers prove
``progress``          one peer's log as the leader sees it
``leases``            promises to grant no vote, and how long a leader may count on them
``reads``             which reads share which round of confirmation
``configuration``     who is in the cluster, and which configuration is in force at which index
``quorum``            majorities, simple and joint
``log``               the entries in memory, and how far our disk has them
``durability``        what must be on disk before what may be said
``diskwatch``         whether our disk keeps up
``room``              how much room it has, and what may still be appended
``succession``        who should lead after this leader
``recovery``          from the disk to a state to begin with
``settings``          bounds and patience
===================== ==============================================================================================
"""

from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import Entry, EntryKind, HardState, SnapshotMeta
from raftkv.raft.node import RaftNode
from raftkv.raft.progress import ProgressState, ProgressView
from raftkv.raft.ready import ReadState, Ready, Role, SoftState, Write
from raftkv.raft.room import LogRoom, Room
from raftkv.raft.settings import RaftSettings

__all__ = [
    "Configuration",
    "Entry",
    "EntryKind",
    "HardState",
    "LogRoom",
    "Member",
    "ProgressState",
    "ProgressView",
    "RaftNode",
    "RaftSettings",
    "ReadState",
    "Ready",
    "Role",
    "Room",
    "SnapshotMeta",
    "SoftState",
    "Write",
]
