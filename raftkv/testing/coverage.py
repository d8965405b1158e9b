"""How many different situations a simulated cluster has been in: a cheap measure of what the seeds have tried.

A node's situation is its role, its term compared with the latest one, and its log compared with what is committed; a
cluster's is the sorted list of its nodes', so that who is who makes no difference. Counted are the situations and the
steps from one to the next. None of this judges anything.
"""

from __future__ import annotations

import zlib
from typing import Final

from raftkv.testing.checkers import NodeView

_DOWN: Final = "down"


class Coverage:
    """What one cluster has been through.

    :ivar situations: a checksum for each situation of the cluster; likewise ``steps`` for each change of one.
    """

    def __init__(self) -> None:
        self.situations: set[int] = set()
        self.steps: set[int] = set()
        self._nodes: dict[str, str] = {}
        self._latest_term = 0
        self._committed = 0
        self._before = 0

    def look(self, name: str, view: NodeView) -> None:
        """Look at a node after something changed in it."""
        self._latest_term = max(self._latest_term, view.current_term)
        self._committed = max(self._committed, view.commit_index)
        self._note(name, self._situation(view))

    def gone(self, name: str) -> None:
        """A node is down."""
        self._note(name, _DOWN)

    def _situation(self, view: NodeView) -> str:
        last, commit = view.last_index, view.commit_index
        last_term = view.term_at(last) or 0
        relations = (
            "=" if view.current_term == self._latest_term else "<",
            "=" if last_term == view.current_term else "<",
            "<" if last < self._committed else "=" if last == self._committed else ">",
            "<" if commit < min(last, self._committed) else "=",
            "c" if view.first_index > 1 else "w",
            "j" if view.configuration.is_joint else "s",
        )
        return view.role.value + "".join(relations)

    def _note(self, name: str, situation: str) -> None:
        if self._nodes.get(name) == situation:
            return
        self._nodes[name] = situation
        now = zlib.crc32(" ".join(sorted(self._nodes.values())).encode())
        self.situations.add(now)
        self.steps.add(zlib.crc32(b"%d %d" % (self._before, now)))
        self._before = now
