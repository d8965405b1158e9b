"""What the checkers look at, and what they remember of it; it is judged elsewhere."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import HardState
from raftkv.raft.ready import Role, Write
from raftkv.testing.shadow import ShadowLog, ShadowState


class NodeView(Protocol):
    """What the checkers look at: a :class:`~raftkv.raft.node.RaftNode`."""

    @property
    def role(self) -> Role: ...
    @property
    def current_term(self) -> int: ...
    @property
    def voted_for(self) -> str | None: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def may_lack_entries(self) -> bool: ...
    @property
    def first_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def configuration(self) -> Configuration: ...
    @property
    def configuration_index(self) -> int: ...
    def term_at(self, index: int) -> int | None: ...


class StateView(Protocol):
    """What the checkers look at: a :class:`~raftkv.kvstore.store.Store`."""

    @property
    def applied_index(self) -> int: ...
    @property
    def revision(self) -> int: ...
    def digest(self) -> str: ...


class Watched:
    """What is remembered of one node.

    :ivar queued: after every write that it asked for.
    :ivar durable: after every write that its storage called durable.
    :ivar pending: the writes in between.
    :ivar life: how often it was started.
    :ivar is_known: whether what its disk held at the end of its last life is known.
    :ivar votes: whom it gave its vote in each term, with every disk that it ever had.
    :ivar former: incarnations whose disks are lost, and what was durable on them.
    :ivar lost: what its disk had before it lost some of that, until it may vote again; ``lost_term`` as it said last.
    :ivar commit_index: as last seen in this life; likewise ``applied_index``, ``term`` and ``configuration``.
    :ivar facts: all that ``look`` looks at, as it was the last time.
    """

    __slots__ = (
        "applied_index",
        "commit_index",
        "configuration",
        "durable",
        "facts",
        "former",
        "is_known",
        "life",
        "lost",
        "lost_term",
        "pending",
        "queued",
        "role",
        "term",
        "votes",
    )

    def __init__(self) -> None:
        self.life = 0
        self.is_known = False
        self.queued = ShadowState(HardState(), ShadowLog())
        self.durable = ShadowState(HardState(), ShadowLog())
        self.pending: deque[Write] = deque()
        self.votes: dict[int, str] = {}
        self.former: list[tuple[str, ShadowLog]] = []
        self.configuration: tuple[Configuration, int] | None = None
        self.lost: list[ShadowLog] = []
        self.lost_term = 0
        self.begin_life()

    def begin_life(self) -> None:
        """Forget what a process that has ended knew."""
        self.commit_index = 0
        self.applied_index = 0
        self.term = 0
        self.role = Role.FOLLOWER
        self.facts: tuple[object, ...] = ()


class Observed:
    """What all rules share.

    :ivar nodes: what is remembered of each node that was ever started.
    :ivar views: the cores of those that are up.
    :ivar leaders: who led each term, and in which life.
    :ivar committed: the term of each entry that some node has called committed.
    :ivar committed_in: the term in which that node was then. It may be later than the entry's, and only leaders of
        terms behind it must have the entry (section 5.4.3): one of a term before may yet be elected, by late votes.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Watched] = {}
        self.views: dict[str, NodeView] = {}
        self.leaders: dict[int, tuple[str, int]] = {}
        self.committed: dict[int, int] = {}
        self.committed_in: dict[int, int] = {}
