"""Who is in the cluster, and under which addresses.

``directory`` answers where a member is; ``announcer`` writes what the leader has learned into the log. ``changes``
reads requests to change the members and says what would follow; ``service`` carries them out; ``promoter`` makes voters
of learners that have caught up; ``removal`` finds out that this node is a member no more; ``joining`` asks a running
cluster to take this node in; ``founding`` finds out whether there is a cluster yet.
"""

from raftkv.membership.announcer import Announcer
from raftkv.membership.directory import Directory, MemberAddresses
from raftkv.membership.founding import Founding, Rejoin
from raftkv.membership.joining import Joining, JoinRefused, join_request, joined_from
from raftkv.membership.promoter import Promoter
from raftkv.membership.removal import RemovalWatch
from raftkv.membership.service import Membership

__all__ = [
    "Announcer",
    "Directory",
    "Founding",
    "JoinRefused",
    "Joining",
    "MemberAddresses",
    "Membership",
    "Promoter",
    "Rejoin",
    "RemovalWatch",
    "join_request",
    "joined_from",
]
