"""What others may read of a node: its place in the cluster and in the log. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Mapping

from raftkv.raft.configuration import Configuration
from raftkv.raft.leadership import Leadership
from raftkv.raft.progress import ProgressView
from raftkv.raft.ready import Role
from raftkv.raft.room import LogRoom, Room
from raftkv.raft.state import State


class NodeView:
    """The read-only side of a :class:`~raftkv.raft.node.RaftNode`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._leadership: Leadership | None = None

    @property
    def node_id(self) -> str:
        """This member's id."""
        return self._state.node_id

    @property
    def role(self) -> Role:
        """What this server is at the moment."""
        return self._state.role

    @property
    def current_term(self) -> int:
        """The latest term this server has seen."""
        return self._state.current_term

    @property
    def voted_for(self) -> str | None:
        """Who received this server's vote in the current term."""
        return self._state.voted_for

    @property
    def leader(self) -> str | None:
        """The leader of the current term, where it is known."""
        return self._state.leader

    @property
    def commit_index(self) -> int:
        """The highest index known to be committed."""
        return self._state.commit_index

    @property
    def last_applied(self) -> int:
        """The last index that was handed out in ``Ready.committed``, or restored from a snapshot."""
        return self._state.last_applied

    @property
    def first_index(self) -> int:
        """The first index that is still in the log."""
        return self._state.log.first_index

    @property
    def last_index(self) -> int:
        """The last index of the log."""
        return self._state.log.last_index

    @property
    def stable_index(self) -> int:
        """The last index that is on our own disk."""
        return self._state.log.stable_index

    @property
    def has_unwritten(self) -> bool:
        """Whether the next ``Ready`` has something for our own disk."""
        return self._state.durability.write_wanted

    @property
    def snapshot_index(self) -> int:
        """The last index that our newest snapshot includes; 0 without one."""
        return self._state.log.snapshot_index

    @property
    def disk_stalled(self) -> bool:
        """Whether our own disk takes so long that this server neither campaigns nor keeps leading where others can."""
        return self._state.disk.stalled

    @property
    def disk_room(self) -> Room:
        """How much room there is on our own disk."""
        return self._state.room.level

    @property
    def disk_lacks_room(self) -> bool:
        """Whether so little room is left on our own disk that others should lead, if they can."""
        return self._state.room.level is not Room.AMPLE

    @property
    def disk_is_full(self) -> bool:
        """Whether our own disk has no room but what is kept in reserve."""
        return self._state.room.level is Room.NONE

    @property
    def wants_look(self) -> bool:
        """Whether another look at our own disk is due: what the last one found is half used up, or was not enough."""
        return self._state.room.look_wanted

    @property
    def has_overdrawn(self) -> bool:
        """Whether our log has taken more than was found for it last."""
        return self._state.room.is_exceeded

    def lacks_room_within(self, budget: LogRoom) -> bool:
        """Tell whether an entry was held back that does not fit into what a look has found, the one that began last."""
        return self._state.room.lacks(budget)

    @property
    def cluster_lacks_room(self) -> bool:
        """Whether we lead, and take no write that needs room: our disk is full, or those of too many voters."""
        return self._leadership is not None and self._leadership.lacks_room

    @property
    def may_lack_entries(self) -> bool:
        """Whether our log may lack entries that we acknowledged, so that this server neither votes nor leads."""
        return self._state.may_lack_entries

    @property
    def configuration(self) -> Configuration:
        """The configuration in force, committed or not."""
        return self._state.configuration

    @property
    def configuration_index(self) -> int:
        """Index of the entry that holds the one in force; 0 for the initial one."""
        return self._state.configurations.current_index

    @property
    def transferring_to(self) -> str | None:
        """The member that leadership is being transferred to."""
        return self._leadership.transferring_to if self._leadership is not None else None

    @property
    def has_untold_news(self) -> bool:
        """Whether we lead, and more is committed than every follower was told."""
        return self._leadership is not None and self._leadership.replication.told_index < self._state.commit_index

    @property
    def told_index(self) -> int:
        """How far every follower was told what is committed; our own commit index where we do not lead."""
        return self._leadership.replication.told_index if self._leadership is not None else self._state.commit_index

    def committed_configuration(self, as_of: int | None = None) -> tuple[Configuration, int]:
        """Return the last committed configuration and the index of its entry.

        :param as_of: an index from which on entries do not count, for a snapshot that ends there; ``None`` for the
            commit index.
        """
        return self._state.configurations.at(self.commit_index if as_of is None else min(as_of, self.commit_index))

    def progress(self) -> Mapping[str, ProgressView]:
        """Return what the leader knows of each other member, by id in order; empty where we do not lead."""
        if self._leadership is None:
            return {}
        return {peer: progress.view() for peer, progress in self._leadership.replication.peers.items()}

    def term_at(self, index: int) -> int | None:
        """Return the term of an entry; ``None`` where it was compacted or is not there."""
        return self._state.log.term_at(index)
