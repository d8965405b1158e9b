"""The messages of Raft as values that msgpack packs in C, and back.

Pure functions. A message is an array whose first element says what it is; the numbers are part of the protocol, and
a test pins the bytes. ``sender`` and ``to`` do not travel: the hello of the connection has said them. An entry's
payload is one ``bin`` that is neither looked into nor packed again.

Decoding is strict, for the core trusts what it is given: types (``True`` is no number), ranges, and what every honest
sender keeps to, such as terms of entries that never fall and never exceed the message's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from raftkv.errors import InvariantViolation, ProtocolViolation
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
from raftkv.raft.room import Room

# 0 to 9 belong to what all connections share (see hello).
REQUEST_VOTE: Final = 10  # (10, term, last_log_index, last_log_term, pre_vote, leadership_transfer, to_incarnation)
REQUEST_VOTE_RESPONSE: Final = 11  # (11, term, vote_granted, pre_vote)
APPEND_ENTRIES: Final = 12  # (12, term, prev_log_index, prev_log_term, leader_commit, read_round, groups)
APPEND_ENTRIES_RESPONSE: Final = 13  # (13, term, success, match, rejected, hint_index, hint_term, read_round)
HEARTBEAT: Final = 14  # (14, term, commit_index, read_round, lease, sent_at)
HEARTBEAT_RESPONSE: Final = 15  # (15, term, read_round, sent_at, promised_seconds, room)
INSTALL_SNAPSHOT: Final = 16  # (16, term, meta)
READ_INDEX_REQUEST: Final = 17  # (17, term, context, lease)
READ_INDEX_RESPONSE: Final = 18  # (18, term, context, index)
TIMEOUT_NOW: Final = 19  # (19, term)

# Entries travel in groups (term, kind, payload, payload, ...) of consecutive entries that share term and kind;
# indexes follow from prev_log_index. The array limit of the framing must be low, so a message with more entries than
# this leaves as several, each complete in itself (see split).
MAX_ENTRIES: Final = 256

_LIMIT: Final = 2**63  # indexes, terms and counters stay below
_MAX_INCARNATION: Final = 512  # characters
_KINDS: Final = {int(kind): kind for kind in EntryKind}

Wire = tuple[Any, ...]


# -- encoding --------------------------------------------------------------------------------------------------------


def encode(message: Message) -> Wire:
    """Return the value that carries a message.

    :raises InvariantViolation: its entries are not contiguous, or no value is defined for its class.
    """
    encoder = _ENCODERS.get(type(message))
    if encoder is None:
        raise InvariantViolation(f"{type(message).__name__} is no message of the protocol")
    return encoder(message)


def split(message: AppendEntries) -> list[AppendEntries]:
    """Return messages of at most ``MAX_ENTRIES`` entries that together say what this one says.

    A follower takes them as it takes any pipelined sequence (section 5.3), so the sender need not know.
    """
    entries = message.entries
    parts = [replace(message, entries=entries[:MAX_ENTRIES])]
    for start in range(MAX_ENTRIES, len(entries), MAX_ENTRIES):
        before = entries[start - 1]
        part = entries[start : start + MAX_ENTRIES]
        parts.append(replace(message, prev_log_index=before.index, prev_log_term=before.term, entries=part))
    return parts


def encode_snapshot_meta(meta: SnapshotMeta) -> Wire:
    """Return the value that carries what a snapshot replaces."""
    return (meta.index, meta.term, meta.configuration.encode(), meta.configuration_index)


def _encode_request_vote(message: RequestVote) -> Wire:
    return (
        REQUEST_VOTE,
        message.term,
        message.last_log_index,
        message.last_log_term,
        message.pre_vote,
        message.leadership_transfer,
        message.to_incarnation,
    )


def _encode_request_vote_response(message: RequestVoteResponse) -> Wire:
    return (REQUEST_VOTE_RESPONSE, message.term, message.vote_granted, message.pre_vote)


def _encode_append_entries(message: AppendEntries) -> Wire:
    return (
        APPEND_ENTRIES,
        message.term,
        message.prev_log_index,
        message.prev_log_term,
        message.leader_commit,
        message.read_round,
        _encode_entries(message.prev_log_index, message.entries),
    )


def _encode_entries(prev_log_index: int, entries: tuple[Entry, ...]) -> list[list[Any]]:
    groups: list[list[Any]] = []
    group: list[Any] = []
    index, term, kind = prev_log_index, -1, -1
    for entry in entries:
        index += 1
        if entry.index != index:
            raise InvariantViolation(f"entry {entry.index} stands in AppendEntries where {index} belongs")
        if entry.term != term or entry.kind != kind:
            term, kind = entry.term, entry.kind
            group = [term, int(kind)]
            groups.append(group)
        group.append(entry.payload)
    return groups


def _encode_append_entries_response(message: AppendEntriesResponse) -> Wire:
    return (
        APPEND_ENTRIES_RESPONSE,
        message.term,
        message.success,
        message.match_index,
        message.rejected_index,
        message.hint_index,
        message.hint_term,
        message.read_round,
    )


def _encode_heartbeat(message: Heartbeat) -> Wire:
    return (HEARTBEAT, message.term, message.commit_index, message.read_round, message.lease, message.sent_at)


def _encode_heartbeat_response(message: HeartbeatResponse) -> Wire:
    return (
        HEARTBEAT_RESPONSE,
        message.term,
        message.read_round,
        message.sent_at,
        message.promised_seconds,
        message.room,
    )


def _encode_install_snapshot(message: InstallSnapshot) -> Wire:
    return (INSTALL_SNAPSHOT, message.term, encode_snapshot_meta(message.snapshot))


def _encode_read_index_request(message: ReadIndexRequest) -> Wire:
    return (READ_INDEX_REQUEST, message.term, message.context, message.lease)


def _encode_read_index_response(message: ReadIndexResponse) -> Wire:
    return (READ_INDEX_RESPONSE, message.term, message.context, message.index)


def _encode_timeout_now(message: TimeoutNow) -> Wire:
    return (TIMEOUT_NOW, message.term)


_ENCODERS: Final[dict[type[Message], Callable[[Any], Wire]]] = {
    RequestVote: _encode_request_vote,
    RequestVoteResponse: _encode_request_vote_response,
    AppendEntries: _encode_append_entries,
    AppendEntriesResponse: _encode_append_entries_response,
    Heartbeat: _encode_heartbeat,
    HeartbeatResponse: _encode_heartbeat_response,
    InstallSnapshot: _encode_install_snapshot,
    ReadIndexRequest: _encode_read_index_request,
    ReadIndexResponse: _encode_read_index_response,
    TimeoutNow: _encode_timeout_now,
}


# -- decoding --------------------------------------------------------------------------------------------------------


def decode(value: Any, *, sender: str, to: str) -> Message:
    """Return the message in a value.

    :param value: what the unpacker found: tuples, bytes, text and numbers.
    :param sender: the member at the other end of the connection.
    :param to: this node.
    :raises ProtocolViolation: it is no message that an honest member could have sent.
    """
    if type(value) is not tuple or not value or type(value[0]) is not int:
        raise ProtocolViolation("a message that is no array with a number first")
    known = _DECODERS.get(value[0])
    if known is None:
        raise ProtocolViolation(f"a message of unknown type {value[0]}")
    types, decoder = known
    # One comparison in C tells the length and every type; bool is not int here, as type() is exact.
    if tuple(map(type, value)) != types:
        raise ProtocolViolation(f"a message of type {value[0]} with the wrong elements")
    for number in value:
        if type(number) is int and not 0 <= number < _LIMIT:
            raise ProtocolViolation(f"a message of type {value[0]} with the number {number}")
    return decoder(value, sender, to)


def decode_snapshot_meta(value: Any) -> SnapshotMeta:
    """Return what a snapshot replaces, from its value.

    :raises ProtocolViolation: it is no such value.
    """
    if type(value) is not tuple or tuple(map(type, value)) != (int, int, bytes, int):
        raise ProtocolViolation("a snapshot's description with the wrong elements")
    index, term, configuration, configuration_index = value
    if not (0 <= configuration_index <= index < _LIMIT and index > 0 and 0 < term < _LIMIT):
        raise ProtocolViolation("a snapshot's description with impossible numbers")
    return SnapshotMeta(
        index=index,
        term=term,
        configuration=decode_configuration(configuration),
        configuration_index=configuration_index,
    )


def decode_configuration(payload: bytes) -> Configuration:
    """Return a configuration, having looked at every part of it: the core counts votes with it.

    :raises ProtocolViolation: it is none.
    """
    try:
        configuration = Configuration.decode(payload)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as broken:
        raise ProtocolViolation(f"a configuration that cannot be read: {type(broken).__name__}") from broken
    if not all(_is_member(name, member) for name, member in configuration.members.items()):
        raise ProtocolViolation("a configuration with a member that is not described by texts")
    ids = configuration.members.keys()
    for role in (
        configuration.voters,
        configuration.outgoing_voters,
        configuration.learners,
        configuration.learners_next,
        configuration.promoting,
    ):
        if not ids >= role:
            raise ProtocolViolation("a configuration that gives a role to somebody who is no member")
    if not configuration.voters:
        raise ProtocolViolation("a configuration without voters")
    return configuration


def _is_member(name: str, member: Member) -> bool:
    texts = (name, member.incarnation, member.raft_addr, member.rpc_addr, member.http_addr)
    return bool(name) and all(type(text) is str for text in texts)


def _decode_request_vote(value: Wire, sender: str, to: str) -> Message:
    _, term, last_log_index, last_log_term, pre_vote, leadership_transfer, to_incarnation = value
    if len(to_incarnation) > _MAX_INCARNATION:
        raise ProtocolViolation("a RequestVote with an overlong incarnation")
    return RequestVote(
        term=term,
        sender=sender,
        to=to,
        last_log_index=last_log_index,
        last_log_term=last_log_term,
        pre_vote=pre_vote,
        leadership_transfer=leadership_transfer,
        to_incarnation=to_incarnation,
    )


def _decode_request_vote_response(value: Wire, sender: str, to: str) -> Message:
    return RequestVoteResponse(term=value[1], sender=sender, to=to, vote_granted=value[2], pre_vote=value[3])


def _decode_append_entries(value: Wire, sender: str, to: str) -> Message:
    _, term, prev_log_index, prev_log_term, leader_commit, read_round, groups = value
    if prev_log_term > term:
        raise ProtocolViolation("an AppendEntries that follows an entry of a later term")
    return AppendEntries(
        term=term,
        sender=sender,
        to=to,
        prev_log_index=prev_log_index,
        prev_log_term=prev_log_term,
        leader_commit=leader_commit,
        entries=_decode_entries(groups, term=term, prev_log_index=prev_log_index, prev_log_term=prev_log_term),
        read_round=read_round,
    )


def _decode_entries(
    groups: tuple[Any, ...], *, term: int, prev_log_index: int, prev_log_term: int
) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    index, lowest_term = prev_log_index, max(prev_log_term, 1)
    for group in groups:
        if type(group) is not tuple or len(group) < 3:
            raise ProtocolViolation("a group of entries that holds none")
        entry_term, kind_number, *payloads = group
        if type(entry_term) is not int or not lowest_term <= entry_term <= term:
            raise ProtocolViolation("an entry with an impossible term")
        kind = _KINDS.get(kind_number) if type(kind_number) is int else None
        if kind is None:
            raise ProtocolViolation("an entry of unknown kind")
        lowest_term = entry_term
        for payload in payloads:
            index += 1
            if type(payload) is not bytes:
                raise ProtocolViolation("an entry whose payload is not bytes")
            if kind is EntryKind.CONFIGURATION:
                decode_configuration(payload)
            entries.append(Entry(index=index, term=entry_term, kind=kind, payload=payload))
    if index >= _LIMIT:
        raise ProtocolViolation("an entry with an impossible index")
    return tuple(entries)


def _decode_append_entries_response(value: Wire, sender: str, to: str) -> Message:
    _, term, success, match_index, rejected_index, hint_index, hint_term, read_round = value
    return AppendEntriesResponse(
        term=term,
        sender=sender,
        to=to,
        success=success,
        match_index=match_index,
        rejected_index=rejected_index,
        hint_index=hint_index,
        hint_term=hint_term,
        read_round=read_round,
    )


def _decode_heartbeat(value: Wire, sender: str, to: str) -> Message:
    _, term, commit_index, read_round, lease, sent_at = value
    if not math.isfinite(sent_at):
        raise ProtocolViolation("a Heartbeat of no time at all")
    return Heartbeat(
        term=term,
        sender=sender,
        to=to,
        commit_index=commit_index,
        read_round=read_round,
        lease=lease,
        sent_at=sent_at,
    )


def _decode_heartbeat_response(value: Wire, sender: str, to: str) -> Message:
    _, term, read_round, sent_at, promised_seconds, room = value
    if not (math.isfinite(sent_at) and 0 <= promised_seconds < math.inf):
        raise ProtocolViolation("a HeartbeatResponse with an impossible promise")
    if room > max(Room):
        raise ProtocolViolation("a HeartbeatResponse of a disk with an impossible amount of room")
    return HeartbeatResponse(
        term=term,
        sender=sender,
        to=to,
        read_round=read_round,
        sent_at=sent_at,
        promised_seconds=promised_seconds,
        room=room,
    )


def _decode_install_snapshot(value: Wire, sender: str, to: str) -> Message:
    return InstallSnapshot(term=value[1], sender=sender, to=to, snapshot=decode_snapshot_meta(value[2]))


def _decode_read_index_request(value: Wire, sender: str, to: str) -> Message:
    return ReadIndexRequest(term=value[1], sender=sender, to=to, context=value[2], lease=value[3])


def _decode_read_index_response(value: Wire, sender: str, to: str) -> Message:
    return ReadIndexResponse(term=value[1], sender=sender, to=to, context=value[2], index=value[3])


def _decode_timeout_now(value: Wire, sender: str, to: str) -> Message:
    return TimeoutNow(term=value[1], sender=sender, to=to)


_DECODERS: Final[dict[int, tuple[tuple[type, ...], Callable[[Wire, str, str], Message]]]] = {
    REQUEST_VOTE: ((int, int, int, int, bool, bool, str), _decode_request_vote),
    REQUEST_VOTE_RESPONSE: ((int, int, bool, bool), _decode_request_vote_response),
    APPEND_ENTRIES: ((int, int, int, int, int, int, tuple), _decode_append_entries),
    APPEND_ENTRIES_RESPONSE: ((int, int, bool, int, int, int, int, int), _decode_append_entries_response),
    HEARTBEAT: ((int, int, int, int, bool, float), _decode_heartbeat),
    HEARTBEAT_RESPONSE: ((int, int, int, float, float, int), _decode_heartbeat_response),
    INSTALL_SNAPSHOT: ((int, int, tuple), _decode_install_snapshot),
    READ_INDEX_REQUEST: ((int, int, int, bool), _decode_read_index_request),
    READ_INDEX_RESPONSE: ((int, int, int, int), _decode_read_index_response),
    TIMEOUT_NOW: ((int, int), _decode_timeout_now),
}
