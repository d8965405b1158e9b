"""The call by which a damaged log is repaired: what goes over the wire, and what is refused there."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import BadRequest, ProtocolViolation
from raftkv.interfaces import EntriesAnswer, EntriesRequest
from raftkv.protocols.framing import pack
from raftkv.protocols.repairs import (
    MAX_ANSWER_BYTES,
    MAX_ENTRIES,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from raftkv.protocols.rpc_frames import RESULT, RPC_LIMITS
from raftkv.raft.messages import Entry, EntryKind

REQUEST = EntriesRequest(anchor_index=9, anchor_term=3, first=4, stop=6)
ENTRIES = tuple(Entry(index=index, term=2, kind=EntryKind.COMMANDS, payload=b"p") for index in (4, 5))


class RepairCallTests(SynchronousTestCase):
    """Questions and answers."""

    def test_round_trip(self) -> None:
        """A question and each kind of answer are read as they were meant."""
        self.assertEqual(REQUEST, decode_request(encode_request(REQUEST)))
        for answer in (
            EntriesAnswer(),
            EntriesAnswer(is_damaged=True),
            EntriesAnswer(previous_term=0),
            EntriesAnswer(previous_term=2, entries=ENTRIES),
        ):
            self.assertEqual(answer, decode_answer(REQUEST, encode_answer(answer)))

    def test_pinned(self) -> None:
        """The names and the order are part of the protocol."""
        self.assertEqual({"anchor_index": 9, "anchor_term": 3, "first": 4, "stop": 6}, encode_request(REQUEST))
        self.assertEqual(
            {"previous_term": 2, "entries": [(2, 0, b"p"), (2, 0, b"p")], "is_damaged": False},
            encode_answer(EntriesAnswer(previous_term=2, entries=ENTRIES)),
        )

    def test_senseless_questions(self) -> None:
        """What is no question is refused, and nothing is looked up."""
        good = encode_request(REQUEST)
        for name in good:
            for value in (None, "4", 0, -1, 4.0, True, 1 << 62):
                self.assertRaises(BadRequest, decode_request, {**good, name: value})
        self.assertRaises(BadRequest, decode_request, {})
        self.assertRaises(BadRequest, decode_request, {**good, "first": 7})
        self.assertRaises(BadRequest, decode_request, {**good, "stop": 11})

    def test_senseless_answers(self) -> None:
        """What is no answer is not taken for one."""
        good = encode_answer(EntriesAnswer(previous_term=2, entries=ENTRIES))
        wrong: list[Any] = [None, (), {}, {**good, "previous_term": -1}, {**good, "previous_term": "2"}]
        wrong += [{**good, "is_damaged": None}, {**good, "entries": None}]
        wrong += [{**good, "entries": [*good["entries"], (2, 0, b"p")]}]
        wrong += [{**good, "entries": [entry]} for entry in (None, (), (2, 0), (0, 0, b""), (2, 9, b""), (2, 0, "p"))]
        wrong += [{**good, "entries": [entry]} for entry in ((True, 0, b""), (2, True, b""), (2, 0, None))]
        for value in wrong:
            self.assertRaises(ProtocolViolation, decode_answer, REQUEST, value)

    def test_largest_answer_fits(self) -> None:
        """An answer as large as one may be, with an entry of a mebibyte at its end, fits into a frame of the port."""
        room = MAX_ANSWER_BYTES // MAX_ENTRIES
        entries = [Entry(index=1, term=1, kind=EntryKind.COMMANDS, payload=b"x" * room)] * (MAX_ENTRIES - 1)
        entries.append(Entry(index=1, term=1, kind=EntryKind.COMMANDS, payload=b"x" * (1 << 20)))
        frame = pack((RESULT, 1, encode_answer(EntriesAnswer(previous_term=1, entries=tuple(entries)))))
        self.assertLess(len(frame), RPC_LIMITS.max_message_bytes)
        self.assertLessEqual(MAX_ENTRIES, RPC_LIMITS.max_array_length)
