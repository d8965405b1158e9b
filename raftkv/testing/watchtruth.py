"""The true history of a story by revision, and what a watcher has heard, judged against it.

The rules are those of etcd's robustness tests for watches: events are ordered, unique, atomic by revision, reliable,
resumable, and progress is a bookmark. Beside them: what a key held before is true, and a watch that begins now begins
behind everything that anybody was told before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raftkv.errors import Compacted, FutureRevision, Overflow, RaftKVError
from raftkv.interfaces import Record
from raftkv.kvstore import Store
from raftkv.kvstore.commands import Command, Result
from raftkv.kvstore.views import Change
from raftkv.raft.messages import Entry, EntryKind
from raftkv.testing.checkers import Violation
from raftkv.testing.corruption import POISON
from raftkv.watches import WatchRequest

_ALL = 2**40
_STRAY = b"stray "  # how keys begin that are put into a state on purpose


class _ForgetfulStore(Store):
    """A store that tells before it forgets: one entry may hold writes and a compaction of what they made.

    :param forgetting: called before each compaction.
    """

    def __init__(self, forgetting: Callable[[], None]) -> None:
        super().__init__()
        self._forgetting = forgetting

    def _compact(self, command: Command) -> Result:
        self._forgetting()
        return super()._compact(command)


class WatchTruth:
    """Everything that was ever applied, by revision: what one store makes of all entries, none of it forgotten.

    :ivar revision: the last one.
    :ivar compact_revision: the largest that some entry has compacted to.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.compact_revision = 0
        self._store = _ForgetfulStore(self._take_in)
        self._changes: list[list[Change]] = [[]]
        self._live: dict[bytes, Record] = {}

    def applied(self, entry: Entry) -> None:
        """Take note of an applied entry; each index counts once, whichever node is first."""
        store = self._store
        if entry.index <= store.applied_index:
            return
        if entry.index != store.applied_index + 1:
            raise ValueError(f"nobody was seen to apply what is between {store.applied_index} and {entry.index}")
        if entry.kind is not EntryKind.COMMANDS:
            store.skip(entry.index)
            return
        store.apply(entry.index, entry.payload)
        self._take_in()
        self.compact_revision = store.compact_revision

    def _take_in(self) -> None:
        """Take note of the revisions that are new."""
        store = self._store
        for revision in range(self.revision + 1, store.revision + 1):
            changes = store.changes_of(revision, 0, _ALL)
            for change in changes:
                self._note(revision, change)
            self._changes.append(changes)
        self.revision = store.revision

    def _note(self, revision: int, change: Change) -> None:
        """Hold what the store says that a key held before against what it said then."""
        before = self._live.pop(change.key, None)
        if before != change.previous:
            raise Violation("previous value", f"at {revision} {change.key!r} held {before}, not {change.previous}")
        if change.record is not None:
            self._live[change.key] = change.record

    def matching(self, request: WatchRequest, above: int, up_to: int) -> list[tuple[int, list[Change]]]:
        """Return what a request asks for of the revisions above one and up to another."""
        found = []
        for revision in range(above + 1, min(up_to, self.revision) + 1):
            wanted = [change for change in self._changes[revision] if is_wanted(request, change)]
            if wanted:
                found.append((revision, wanted))
        return found


def is_wanted(request: WatchRequest, change: Change) -> bool:
    """Tell whether a request asks for a change."""
    is_in_range = request.start <= change.key and (not request.end or change.key < request.end)
    return is_in_range and (request.puts if change.record is not None else request.deletes)


class Transcript:
    """What one watcher has heard, over all its streams.

    :ivar told_revision: the id behind which it would go on; -1 before it has one.
    """

    def __init__(self, name: str, request: WatchRequest, truth: WatchTruth) -> None:
        self.told_revision = -1
        self._name = name
        self._request = request
        self._truth = truth
        self._part: list[Change] = []  # the beginning of a revision, without its id
        self._part_revision = 0
        self._at_least = 0
        self._first: int | None = None
        self._is_open = False

    # -- what it asks for --------------------------------------------------------------------------------------------

    def asked_now(self, *, at_least: int) -> None:
        """It asks for what follows a linearizable read.

        :param at_least: a revision that somebody was told of by now.
        """
        self._at_least, self._first, self.told_revision = at_least, None, -1

    def asked_from(self, first: int) -> None:
        """It asks for everything from a revision on."""
        self._at_least, self._first, self.told_revision = 0, first, -1

    def stream_over(self) -> None:
        """The stream is no more; what it told of a revision without its end is forgotten, as it bore no id."""
        self._is_open = False
        self._part = []

    # -- what it hears -----------------------------------------------------------------------------------------------

    def begun(self, revision: int) -> int:
        """A stream has begun; return its id.

        :raises Violation: not where it should have.
        """
        if self._is_open:
            raise Violation("watch order", self._of(f"a stream begins twice, at {revision}"))
        self._is_open = True
        if self.told_revision >= 0:
            if revision != self.told_revision:
                raise Violation(
                    "watch resumed", self._of(f"it was told up to {self.told_revision}, and goes on behind {revision}")
                )
        elif self._first is not None:
            if revision != self._first - 1:
                raise Violation("watch begun", self._of(f"it asked for {self._first}, and begins behind {revision}"))
        elif not self._at_least <= revision <= self._truth.revision:
            raise Violation(
                "stale watch", self._of(f"it begins behind {revision}; {self._at_least} was told before it asked")
            )
        self.told_revision = revision
        return revision

    def changed(self, changes: Sequence[tuple[int, Change]], *, is_whole: bool) -> int | None:
        """Changes of one revision have arrived; return its id, ``None`` where more of it is to come.

        :raises Violation: they are not what comes next.
        """
        self._expect_open()
        revision = changes[0][0]
        if any(number != revision for number, _ in changes) or (self._part and revision != self._part_revision):
            raise Violation("watch atomic", self._of(f"{changes} behind a part of {self._part_revision}"))
        if revision <= self.told_revision:
            raise Violation(
                "watch unique", self._of(f"revision {revision} after it was told up to {self.told_revision}")
            )
        self._part_revision = revision
        self._part += [change for _, change in changes]
        if not is_whole:
            return None
        part, self._part = [change for change in self._part if not change.key.startswith(_STRAY)], []
        if not part:
            return None
        expected = self._truth.matching(self._request, self.told_revision, revision)
        if len(expected) != 1 or expected[0][0] != revision or not are_alike(part, expected[0][1]):
            raise Violation(
                "watch reliable",
                self._of(f"told {part} at {revision} behind {self.told_revision}, expected {expected}"),
            )
        self.told_revision = revision
        return revision

    def progress(self, revision: int) -> int:
        """It was told that it knows everything up to a revision; return the id.

        :raises Violation: it does not.
        """
        self._expect_open()
        if self._part:
            raise Violation("watch atomic", self._of(f"progress {revision} in the middle of {self._part_revision}"))
        if revision < self.told_revision:
            raise Violation(
                "watch order", self._of(f"progress {revision} after it was told up to {self.told_revision}")
            )
        missing = self._truth.matching(self._request, self.told_revision, revision)
        if missing:
            raise Violation("watch bookmark", self._of(f"progress {revision}, but it was never told {missing}"))
        self.told_revision = revision
        return revision

    def ended(self, error: RaftKVError) -> None:
        """A stream has ended.

        :raises Violation: for no good reason.
        """
        if isinstance(error, Compacted):
            is_true = self._next() < error.compact_revision <= self._truth.compact_revision
            if not is_true:
                raise Violation("watch compacted", self._of(f"{error}, but next is {self._next()}"))
        elif isinstance(error, FutureRevision):
            raise Violation("watch resumed", self._of(f"told up to {self.told_revision}, and now {error}"))
        elif isinstance(error, Overflow):
            missing = self._truth.matching(self._request, self.told_revision, error.revision)
            if missing:
                raise Violation("watch overflow", self._of(f"{error}, but it was never told {missing}"))

    def _next(self) -> int:
        return self.told_revision + 1 if self.told_revision >= 0 else self._first or 0

    def _expect_open(self) -> None:
        if not self._is_open:
            raise Violation("watch order", self._of("something before the beginning"))

    def _of(self, what: str) -> str:
        return f"{self._name}, {self._request}: {what}"


def are_alike(told: Sequence[Change], true: Sequence[Change]) -> bool:
    """Compare changes, but for values that were changed on purpose, by whose node this was not found out yet."""
    return len(told) == len(true) and all(
        one == other or (one[:2] == other[:2] and one.previous is not None and one.previous[0].startswith(POISON))
        for one, other in zip(told, true, strict=True)
    )
