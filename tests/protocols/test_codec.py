"""Messages of Raft as bytes and back: pinned bytes, round trips, and what is refused."""

from __future__ import annotations

import random
from dataclasses import replace

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import InvariantViolation, ProtocolViolation
from raftkv.protocols.codec import MAX_ENTRIES, decode, encode, split
from raftkv.protocols.framing import pack
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
    RequestVote,
    RequestVoteResponse,
    SnapshotMeta,
    TimeoutNow,
)

CONFIGURATION = Configuration(
    members={name: Member(id=name, incarnation="i", raft_addr="h:1") for name in "abc"},
    voters=frozenset("ab"),
    learners=frozenset("c"),
)
WAY = {"sender": "a", "to": "b"}


def entry(index: int, term: int, payload: bytes = b"p", kind: EntryKind = EntryKind.COMMANDS) -> Entry:
    """Return an entry."""
    return Entry(index=index, term=term, kind=kind, payload=payload)


PINNED: list[tuple[Message, str]] = [
    (
        RequestVote(
            term=3,
            **WAY,
            last_log_index=300,
            last_log_term=2,
            pre_vote=True,
            leadership_transfer=False,
            to_incarnation="x",
        ),
        "970a03cd012c02c3c2a178",
    ),
    (RequestVoteResponse(term=3, **WAY, vote_granted=True), "940b03c3c2"),
    (
        AppendEntries(
            term=3,
            **WAY,
            prev_log_index=6,
            prev_log_term=2,
            leader_commit=5,
            read_round=9,
            entries=(entry(7, 2, b"x"), entry(8, 3, b"", EntryKind.NOOP), entry(9, 3, b"y"), entry(10, 3, b"z")),
        ),
        "970c0306020509" + "93" + "930200c40178" + "930301c400" + "940300c40179c4017a",
    ),
    (
        AppendEntriesResponse(
            term=3, **WAY, success=False, match_index=1, rejected_index=2, hint_index=4, hint_term=5, read_round=6
        ),
        "980d03c20102040506",
    ),
    (
        Heartbeat(term=3, **WAY, commit_index=4, read_round=5, lease=True, sent_at=0.5),
        "960e030405c3" + "cb3fe0000000000000",
    ),
    (
        HeartbeatResponse(term=3, **WAY, read_round=5, sent_at=0.5, promised_seconds=2.0, room=1),
        "960f0305" + "cb3fe0000000000000" + "cb4000000000000000" + "01",
    ),
    (ReadIndexRequest(term=3, **WAY, context=5, lease=True), "94110305c3"),
    (ReadIndexResponse(term=3, **WAY, context=5, index=6), "9412030506"),
    (TimeoutNow(term=3, **WAY), "921303"),
]


def travel(message: Message) -> Message:
    """Return what arrives."""
    return decode(msgpack.unpackb(pack(encode(message)), use_list=False), sender=message.sender, to=message.to)


class PinnedBytesTests(SynchronousTestCase):
    """The bytes are part of the protocol."""

    def test_pinned(self) -> None:
        """Each message has exactly these bytes, and they decode to it."""
        for message, expected in PINNED:
            self.assertEqual(pack(encode(message)).hex(), expected, type(message).__name__)
            self.assertEqual(travel(message), message)

    def test_install_snapshot(self) -> None:
        """A snapshot's description carries the canonical bytes of its configuration."""
        meta = SnapshotMeta(index=9, term=2, configuration=CONFIGURATION, configuration_index=4)
        message = InstallSnapshot(term=3, **WAY, snapshot=meta)
        self.assertEqual(encode(message), (16, 3, (9, 2, CONFIGURATION.encode(), 4)))
        self.assertEqual(travel(message), message)

    def test_every_class_is_covered(self) -> None:
        """Every message of the core can travel."""
        covered = {type(message).__name__ for message, _ in PINNED} | {InstallSnapshot.__name__}
        # By name: a dataclass with slots leaves the class that it replaced among the subclasses.
        self.assertEqual(covered, {cls.__name__ for cls in Message.__subclasses__()})


numbers = st.integers(0, 2**63 - 1)
texts = st.text(max_size=20)


@st.composite
def append_entries(draw: st.DrawFn) -> AppendEntries:
    """Draw an AppendEntries that an honest leader could send."""
    terms = sorted(draw(st.lists(st.integers(1, 20), max_size=12)))
    prev_log_term = draw(st.integers(0, terms[0] if terms else 20))
    prev_log_index = draw(st.integers(0, 2**62))
    kinds = st.sampled_from([EntryKind.COMMANDS, EntryKind.NOOP])
    return AppendEntries(
        term=draw(st.integers(max([20, *terms]), 2**63 - 1)),
        **WAY,
        prev_log_index=prev_log_index,
        prev_log_term=prev_log_term,
        leader_commit=draw(numbers),
        read_round=draw(numbers),
        entries=tuple(
            entry(prev_log_index + 1 + i, term, draw(st.binary(max_size=40)), draw(kinds))
            for i, term in enumerate(terms)
        ),
    )


way = {"sender": st.just("a"), "to": st.just("b")}
anything = st.one_of(
    st.builds(
        RequestVote,
        term=numbers,
        **way,
        last_log_index=numbers,
        last_log_term=numbers,
        pre_vote=st.booleans(),
        leadership_transfer=st.booleans(),
        to_incarnation=texts,
    ),
    st.builds(RequestVoteResponse, term=numbers, **way, vote_granted=st.booleans(), pre_vote=st.booleans()),
    append_entries(),
    st.builds(
        AppendEntriesResponse,
        term=numbers,
        **way,
        success=st.booleans(),
        match_index=numbers,
        rejected_index=numbers,
        hint_index=numbers,
        hint_term=numbers,
        read_round=numbers,
    ),
    st.builds(Heartbeat, term=numbers, **way, commit_index=numbers, read_round=numbers, lease=st.booleans()),
    st.builds(HeartbeatResponse, term=numbers, **way, read_round=numbers, room=st.integers(0, 2)),
    st.builds(ReadIndexRequest, term=numbers, **way, context=numbers),
    st.builds(ReadIndexResponse, term=numbers, **way, context=numbers, index=numbers),
    st.builds(TimeoutNow, term=numbers, **way),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=4) | texts,
    lambda inner: st.lists(inner, max_size=6).map(tuple) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)


class RoundTripTests(SynchronousTestCase):
    """What arrives is what was sent."""

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(anything)
    def test_round_trip(self, message: Message) -> None:
        """Every message arrives as it was sent."""
        self.assertEqual(travel(message), message)

    def test_configuration_entry(self) -> None:
        """An entry that holds a configuration arrives with its very bytes."""
        held = entry(5, 2, CONFIGURATION.encode(), EntryKind.CONFIGURATION)
        message = AppendEntries(term=2, **WAY, prev_log_index=4, prev_log_term=1, leader_commit=0, entries=(held,))
        self.assertEqual(travel(message), message)

    def test_split(self) -> None:
        """Many entries travel as several messages that say the same together, each following the one before."""
        entries = tuple(entry(i, 1 + i // 300) for i in range(11, 11 + 2 * MAX_ENTRIES + 7))
        message = AppendEntries(term=9, **WAY, prev_log_index=10, prev_log_term=1, leader_commit=3, entries=entries)
        parts = split(message)
        self.assertEqual([len(part.entries) for part in parts], [MAX_ENTRIES, MAX_ENTRIES, 7])
        self.assertEqual(sum((part.entries for part in parts), ()), entries)
        previous = (10, 1)
        for part in parts:
            self.assertEqual((part.prev_log_index, part.prev_log_term), previous)
            self.assertEqual(replace(part, prev_log_index=10, prev_log_term=1, entries=entries), message)
            previous = (part.entries[-1].index, part.entries[-1].term)

    def test_gap(self) -> None:
        """Entries that are not contiguous are our own mistake and never leave."""
        message = AppendEntries(
            term=2, **WAY, prev_log_index=4, prev_log_term=1, leader_commit=0, entries=(entry(6, 2),)
        )
        self.assertRaises(InvariantViolation, encode, message)


class StrictnessTests(SynchronousTestCase):
    """What no honest member sends does not reach the core."""

    def assert_refused(self, value: object) -> None:
        """Assert that a value is no message."""
        with self.assertRaises(ProtocolViolation, msg=repr(value)):
            decode(value, sender="a", to="b")

    def test_shapes_and_types(self) -> None:
        """Every element replaced by another type, left out, or added, makes the message a violation."""
        for message, _ in PINNED:
            wire = msgpack.unpackb(pack(encode(message)), use_list=False)
            self.assert_refused(wire[:-1])
            self.assert_refused((*wire, 0))
            self.assert_refused(list(wire))
            for position, element in enumerate(wire):
                for wrong in (True, 1, 1.0, b"x", "x", None, (), {}):
                    if type(wrong) is not type(element) and wrong != element:
                        self.assert_refused((*wire[:position], wrong, *wire[position + 1 :]))
                if type(element) is int:
                    for wrong in (-1, 2**63, 2**64 - 1, bool(element), float(element)):
                        self.assert_refused((*wire[:position], wrong, *wire[position + 1 :]))

    def test_entries(self) -> None:
        """Groups without entries, falling or future terms, unknown kinds and payloads that are no bytes are refused."""
        good = (12, 5, 4, 2, 0, 0)
        decode((*good, ((2, 0, b"x"), (5, 1, b""))), sender="a", to="b")
        for groups in (
            (5,),
            ((),),
            ((2, 0),),
            ((6, 0, b"x"),),
            ((1, 0, b"x"),),
            ((0, 0, b"x"),),
            ((4, 0, b"x"), (3, 0, b"y")),
            ((True, 0, b"x"),),
            ((2, False, b"x"),),
            ((2, 3, b"x"),),
            ((2, -1, b"x"),),
            ((2, 0, "x"),),
            ((2, 0, b"x", None),),
            ((2, 2, b"x"),),
        ):
            self.assert_refused((*good, groups))
        self.assert_refused((12, 5, 2**63 - 1, 2, 0, 0, ((2, 0, b"x"),)))
        self.assert_refused((12, 5, 4, 6, 0, 0, ()))

    def test_configurations(self) -> None:
        """A configuration that is broken, has no voters, or gives roles to strangers is refused."""
        good = CONFIGURATION.encode().decode()
        for wrong in (
            "",
            "[]",
            "{}",
            "[" * 100_000,
            good.replace('"version":1', '"version":2'),
            good.replace('"voters":["a","b"]', '"voters":[]'),
            good.replace('"voters":["a","b"]', '"voters":["a","z"]'),
            good.replace('"voters":["a","b"]', '"voters":[["a"]]'),
            good.replace('"voters":["a","b"]', '"voters":7'),
            good.replace('["i","h:1","",""]', '["i",1,"",""]'),
            good.replace('["i","h:1","",""]', '["i"]'),
        ):
            self.assertNotEqual(wrong, good)
            self.assert_refused((12, 5, 4, 2, 0, 0, ((2, 2, wrong.encode()),)))
            self.assert_refused((16, 5, (9, 2, wrong.encode(), 4)))

    def test_snapshot_numbers(self) -> None:
        """A snapshot at index or term 0, or older than its configuration, is refused."""
        payload = CONFIGURATION.encode()
        for wrong in (
            (0, 2, payload, 0),
            (9, 0, payload, 4),
            (9, 2, payload, 10),
            (9, 2, payload, -1),
            (9, 2, payload),
        ):
            self.assert_refused((16, 5, wrong))

    @settings(derandomize=True, max_examples=300, deadline=None)
    @given(values)
    def test_arbitrary_values(self, value: object) -> None:
        """Any other value is a violation, never another error."""
        try:
            decode(value, sender="a", to="b")
        except ProtocolViolation:
            return
        self.assertIsInstance(value, tuple)

    def test_mutated_messages(self) -> None:
        """Messages with elements exchanged at random decode or are violations, never another error."""
        chance = random.Random(7)
        wires = [msgpack.unpackb(pack(encode(message)), use_list=False) for message, _ in PINNED]
        elements = [element for wire in wires for element in wire] + [2**64 - 1, -5, None, "x" * 600, 1.5]
        for _ in range(5000):
            wire = list(chance.choice(wires))
            for _ in range(chance.randrange(1, 3)):
                wire[chance.randrange(len(wire))] = chance.choice(elements)
            try:
                decode(tuple(wire), sender="a", to="b")
            except ProtocolViolation:
                continue
