"""The endpoints that take a whole list of things at once: ``POST /v1/txn``, and ``POST /v1/compact``.

JSON becomes a command of the state machine here, and its answer JSON again. What a transaction may hold altogether is
checked with the command (:mod:`raftkv.kvstore.checking`), what a field may hold is checked here, where its place is
known.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from raftkv.errors import BadRequest
from raftkv.interfaces import Command, Result
from raftkv.kvstore import commands
from raftkv.kvstore.checking import MAX_DEPTH, MAX_RANGE_RECORDS, named_range
from raftkv.reading.ranges import RangePosition, RangeRequest
from raftkv.reading.tokens import ContinueTokens
from raftkv.web.access import Access
from raftkv.web.documents import (
    flag_field,
    json_bytes,
    json_object,
    number_field,
    objects_field,
    record_document,
    refuse_unknown,
    text_field,
    value_field,
)
from raftkv.web.exchange import JSON, Answer, Exchange
from raftkv.web.parameters import check_json_type, checked_key
from raftkv.web.queries import Parameters, checked_edge

_Fields = dict[str, Any]

_COMPACT_FIELDS: Final = frozenset({"revision"})
_BRANCHES: Final = frozenset({"compare", "success", "failure"})
_RANGE: Final = frozenset({"prefix", "start", "end"})
_VALUE: Final = frozenset({"value", "value_base64"})
_COMPARE_FIELDS: Final = frozenset({"key", "target", "op"}) | _RANGE | _VALUE
_OPERATION_FIELDS: Final = {
    "put": frozenset({"op", "key", "lease"}) | _VALUE,
    "get": frozenset({"op", "key", "revision"}),
    "delete": frozenset({"op", "key"}) | _RANGE,
    "range": frozenset({"op", "limit", "reverse", "keys_only", "count_only", "revision"}) | _RANGE,
    "txn": frozenset({"op"}) | _BRANCHES,
}


class TransactionOperations:
    """Compare and do; and let go of what only the past has."""

    def __init__(self, access: Access, tokens: ContinueTokens) -> None:
        self._access = access
        self._max_key_bytes = access.settings.max_key_bytes
        self._max_value_bytes = access.settings.max_value_bytes
        self._tokens = tokens

    def transact(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``POST /v1/txn``."""
        check_json_type(exchange.headers)
        command = self._transaction(json_object(exchange.body, _BRANCHES), "", 1)
        self._access.write(exchange, command, partial(self._answer, command))

    def compact(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``POST /v1/compact``."""
        check_json_type(exchange.headers)
        revision = number_field(json_object(exchange.body, _COMPACT_FIELDS), "revision", lowest=1)

        def render(result: Result) -> Answer:
            # Our own state may not have come as far as the leader's.
            present = max(self._access.key_value.revision(), revision)
            return Answer(200, JSON, json_bytes({"compact_revision": result[1], "revision": present}))

        self._access.write(exchange, commands.compact(revision), render)

    # -- from JSON --------------------------------------------------------------------------------------------------

    def _transaction(self, document: _Fields, where: str, depth: int) -> Command:
        """Return the command of a transaction.

        :param where: its place in the document, for messages: empty, or with a dot at the end.
        """
        if depth > MAX_DEPTH:
            raise BadRequest(f"{where}op: at most {MAX_DEPTH} transactions may stand in one another")
        compares = [
            self._compare(fields, f"{where}compare[{number}]")
            for number, fields in enumerate(objects_field(document, "compare", where))
        ]
        success, failure = (
            [
                self._operation(fields, f"{where}{branch}[{number}]", depth)
                for number, fields in enumerate(objects_field(document, branch, where))
            ]
            for branch in ("success", "failure")
        )
        return commands.transaction(compares, success, failure)

    def _compare(self, fields: _Fields, place: str) -> commands.Compare:
        refuse_unknown(fields, _COMPARE_FIELDS, place)
        where = f"{place}."
        target = commands.TARGETS[_word(fields, "target", commands.TARGETS, where)]
        operator = commands.OPERATORS[_word(fields, "op", commands.OPERATORS, where)]
        start, end = self._key_or_range(fields, where)
        operand: bytes | int | None
        if target != commands.TARGET_VALUE:
            if "value_base64" in fields:
                raise BadRequest(f"{where}value_base64: only a value is compared with one; expected value, a number")
            operand = number_field(fields, "value", where, lowest=0)
        elif fields.get("value", "") is None and "value_base64" not in fields:
            operand = None
        else:
            operand = value_field(fields, self._max_value_bytes, where)
        return commands.compare(target, operator, start, operand, end=end)

    def _operation(self, fields: _Fields, place: str, depth: int) -> commands.Operation:
        where = f"{place}."
        name = _word(fields, "op", _OPERATION_FIELDS, where)
        refuse_unknown(fields, _OPERATION_FIELDS[name], place)
        if name == "put":
            lease = number_field(fields, "lease", where, lowest=0, default=0)
            value = value_field(fields, self._max_value_bytes, where)
            return commands.put(self._key(fields, where), value, lease=lease)
        if name == "get":
            revision = number_field(fields, "revision", where, lowest=1, default=0)
            return commands.get(self._key(fields, where), revision)
        if name == "delete":
            start, end = self._key_or_range(fields, where)
            return commands.delete(start) if end is None else commands.delete_range(start, end)
        if name == "range":
            return self._range(fields, where)
        return self._transaction(fields, where, depth + 1)

    def _range(self, fields: _Fields, where: str) -> commands.Operation:
        start, end = self._edges(fields, where) or (b"", b"")
        limit = number_field(fields, "limit", where, lowest=1, highest=MAX_RANGE_RECORDS, default=MAX_RANGE_RECORDS)
        revision = number_field(fields, "revision", where, lowest=1, default=0)
        flags = 0
        for name, flag in (
            ("reverse", commands.REVERSE),
            ("keys_only", commands.KEYS_ONLY),
            ("count_only", commands.COUNT_ONLY),
        ):
            flags |= flag if flag_field(fields, name, where) else 0
        return commands.range_of(start, end, limit, flags, revision)

    def _key(self, fields: _Fields, where: str) -> bytes:
        return checked_key(text_field(fields, "key", where).encode("utf-8"), self._max_key_bytes, f"{where}key")[0]

    def _key_or_range(self, fields: _Fields, where: str) -> tuple[bytes, bytes | None]:
        """Return a key and ``None``, or start and end of a range."""
        edges = self._edges(fields, where)
        if edges is None:
            return self._key(fields, where), None
        if "key" in fields:
            raise BadRequest(f"{where}key: cannot be combined with prefix, start or end")
        return edges

    def _edges(self, fields: _Fields, where: str) -> tuple[bytes, bytes] | None:
        prefix, start, end = (
            checked_edge(f"{where}{name}", text_field(fields, name, where).encode("utf-8"), self._max_key_bytes)
            if name in fields
            else None
            for name in ("prefix", "start", "end")
        )
        return named_range(prefix, start, end, where)

    # -- to JSON ----------------------------------------------------------------------------------------------------

    def _answer(self, command: Command, result: Result) -> Answer:
        _, revision, succeeded, results = result
        return Answer(200, JSON, json_bytes(self._outcome(command, revision, succeeded, results)))

    def _outcome(
        self, command: Command, revision: int, succeeded: bool, results: Sequence[Result]
    ) -> dict[str, object]:
        _, _, _, success, failure = command
        listed = [
            self._result(operation, result, revision)
            for operation, result in zip(success if succeeded else failure, results, strict=True)
        ]
        return {"succeeded": succeeded, "revision": revision, "results": listed}

    def _result(self, operation: commands.Operation, result: Result, revision: int) -> dict[str, object] | None:
        """Return what one operation has done, as its endpoint would answer."""
        code = result[0]
        if code == commands.GET:
            record = result[1]
            return None if record is None else record_document(operation[2].decode("utf-8"), record)
        if code == commands.RANGE:
            return self._listed(operation, result, revision)
        if code == commands.TXN:
            return self._outcome(operation, revision, result[1], result[2])
        if code == commands.DELETE_RANGE:
            return {"deleted": result[1], "revision": revision}
        key = operation[2].decode("utf-8")
        if code == commands.DELETE:
            return {"key": key, "deleted": bool(result[1]), "revision": revision}
        return {"key": key, "revision": revision}

    def _listed(self, operation: commands.Operation, result: Result, revision: int) -> dict[str, object]:
        _, _, start, end, _, flags, *of_past = operation
        _, found, count, place = result
        if flags & commands.COUNT_ONLY:
            return {"count": count, "revision": revision}
        keys_only = bool(flags & commands.KEYS_ONLY)
        request = RangeRequest(start=start, end=end, reverse=bool(flags & commands.REVERSE), keys_only=keys_only)
        position = RangePosition(of_past[0] if of_past else revision, count, place)
        token = None if place is None else self._tokens.seal(request.identity(), position)
        listed = [record_document(key.decode("utf-8"), record, with_value=not keys_only) for key, record in found]
        return {"kvs": listed, "count": count, "continue": token, "revision": revision}


def _word(fields: _Fields, name: str, known: dict[str, Any], where: str) -> str:
    """Return a field that must be one of some words."""
    word = text_field(fields, name, where)
    if word not in known:
        raise BadRequest(f"{where}{name}: {word[:80]!r} is not one of {', '.join(known)}")
    return word
