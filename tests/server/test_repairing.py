"""What a node tells of its log to one whose own is damaged."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import Removed
from raftkv.interfaces import EntriesAnswer, EntriesRequest
from raftkv.protocols.repairs import LOG_ENTRIES, decode_answer, encode_request
from raftkv.raft.messages import Entry, EntryKind
from raftkv.server.repairing import EntriesSource


class FakeLog:
    """A node and its storage: three entries of term 1."""

    stable_index = 3
    may_lack_entries = False
    entries = tuple(Entry(index=index, term=1, kind=EntryKind.COMMANDS, payload=b"%d" % index) for index in (1, 2, 3))

    def term_at(self, index: int) -> int | None:
        return {0: 0, 1: 1, 2: 1, 3: 1}.get(index)

    def read(self, start: int, stop: int, max_bytes: int, done: Any) -> None:
        done(self.entries[start - 1 : stop - 1])


class EntriesSourceTests(SynchronousTestCase):
    """A member whose log is whole."""

    def setUp(self) -> None:
        self.log = FakeLog()
        self.is_removed = False
        node: Any = self.log
        self.source = EntriesSource(node=node, storage=node, is_removed=lambda: self.is_removed)

    def ask(self, request: EntriesRequest) -> Any:
        return self.source.calls()[LOG_ENTRIES](encode_request(request))

    def answer(self, request: EntriesRequest) -> EntriesAnswer:
        return decode_answer(request, self.successResultOf(self.ask(request)))

    def test_supplies(self) -> None:
        """B42: whoever holds the anchor supplies what comes before it, also if it was removed since."""
        request = EntriesRequest(anchor_index=3, anchor_term=1, first=2, stop=4)
        for self.is_removed in (False, True):
            answer = self.answer(request)
            self.assertEqual((answer.previous_term, answer.entries), (1, self.log.entries[1:]))

    def test_lacks(self) -> None:
        """B42: a member says that it lacks an entry, and whether it may have had it."""
        request = EntriesRequest(anchor_index=3, anchor_term=2, first=3, stop=4)
        self.assertEqual(self.answer(request), EntriesAnswer())
        self.log.may_lack_entries = True
        self.assertEqual(self.answer(request), EntriesAnswer(is_damaged=True))

    def test_removed(self) -> None:
        """B42: a node that was removed does not say that it lacks an entry: it was not to have it."""
        self.is_removed = True
        self.failureResultOf(self.ask(EntriesRequest(anchor_index=9, anchor_term=2, first=9, stop=10)), Removed)

    def test_cut_while_it_is_read(self) -> None:
        """B41: what was read of a log that has lost the anchor in the meantime is not of that log for sure."""
        log = self.log
        honest = log.read

        def read(start: int, stop: int, max_bytes: int, done: Any) -> None:
            log.term_at = {0: 0, 1: 1, 2: 2, 3: 2}.get  # type: ignore[method-assign]
            honest(start, stop, max_bytes, done)

        log.read = read  # type: ignore[method-assign]
        request = EntriesRequest(anchor_index=3, anchor_term=1, first=2, stop=4)
        self.assertEqual(self.answer(request), EntriesAnswer())
