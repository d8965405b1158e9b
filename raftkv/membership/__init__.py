"""Who is in the cluster, and under which addresses.

``directory`` answers where a member is; ``announcer`` writes what the leader has learned into the log.
"""

from raftkv.membership.announcer import Announcer
from raftkv.membership.directory import Directory, MemberAddresses

__all__ = ["Announcer", "Directory", "MemberAddresses"]
