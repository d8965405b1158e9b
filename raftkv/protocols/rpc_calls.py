"""What a CALL on the RPC port can ask for: words about the node, and reads of the store that are more than one key.

The names, arguments and answers of the reads are told in :mod:`raftkv.protocols.rpc_frames`; ranges are read by the
same code as over HTTP (:mod:`raftkv.reading`). An answer is a part of what there is: as much as a message can well
hold, with the token that asks for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from raftkv.errors import BadRequest, RaftKVError
from raftkv.interfaces import IKeyValue, INode, Record
from raftkv.kvstore.checking import named_range
from raftkv.protocols.command_rules import CommandRules
from raftkv.protocols.rpc_arguments import READ_ARGUMENTS, Arguments
from raftkv.reading.leases import LISTED, MAX_LISTED, listed_leases, living_lease, remaining_ms
from raftkv.reading.opening import RangeQuestion, Ranges
from raftkv.reading.ranges import RangePosition, RangeRequest, RangeSteps
from raftkv.reading.tokens import ContinueTokens
from raftkv.reading.turns import Turns

if TYPE_CHECKING:
    from raftkv.kvstore.reading import Reader

#: A rare request: takes its arguments, returns what msgpack can carry, or a Deferred of it, or raises RaftKVError.
Call = Callable[[Mapping[str, Any]], object]
T = TypeVar("T")

#: The calls that anybody may make, beside the reads of the store: a node that is to join is a client as yet. All others
#: are among nodes, those of later versions too, unless they are added here.
CLIENT_CALLS: Final = frozenset({"leader", "cluster", "status", "join"})

MAX_LISTED_AT_ONCE: Final = 1_000  #: of records and folders, leases, or keys of a lease in one answer
MAX_RANGE_ANSWER_BYTES: Final = 1024 * 1024  #: of keys and values in one answer, which is then ended by the next record

_MAX_TOKEN_CHARACTERS: Final = 16 * 1024  # many times what a key of the largest size makes
_RECORD_ARGUMENTS: Final = READ_ARGUMENTS | {"key", "revision"}
_RANGE_ARGUMENTS: Final = READ_ARGUMENTS | {
    *("prefix", "start", "end", "delimiter", "limit", "continue", "reverse", "keys_only", "count_only", "revision"),
}
_LEASE_ARGUMENTS: Final = READ_ARGUMENTS | {"lease", "limit", "after"}
_LEASES_ARGUMENTS: Final = READ_ARGUMENTS | {"limit", "continue"}


def node_calls(node: INode) -> dict[str, Call]:
    """Return the calls that tell about a node, as far as it knows by itself."""

    def leader(_: Mapping[str, Any]) -> object:
        known = node.leadership()
        return {
            "node_id": known.node_id,
            "term": known.term,
            "leader": known.leader,
            "http_addr": known.leader_http_addr,
            "rpc_addr": known.leader_rpc_addr,
            "is_leader": known.is_leader,
        }

    return {"leader": leader, "cluster": lambda _: node.local_cluster(), "status": lambda _: node.status()}


class StoreCalls:
    """The reads of one store.

    :param cluster_id: under which the tokens of pages are sealed.
    :param rules: which keys are let in.
    """

    def __init__(self, key_value: IKeyValue, *, cluster_id: str, rules: CommandRules, clock: IReactorTime) -> None:
        self._key_value = key_value
        self._rules = rules
        self._max_key_bytes = rules.max_key_bytes
        self._tokens = ContinueTokens(lambda: cluster_id)
        self._turns = Turns(clock)
        self._ranges = Ranges(key_value, self._tokens, self._turns)

    def table(self) -> dict[str, Call]:
        """Return the calls by name; what each returns is a Deferred, and may be cancelled."""
        return {"record": self._record, "range": self._range, "lease": self._lease, "leases": self._leases}

    # -- one key, of the past ---------------------------------------------------------------------------------------

    def _record(self, found: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        arguments = Arguments(found, _RECORD_ARGUMENTS)
        key = arguments.data("key", self._max_key_bytes)
        self._rules.check_key(key)
        revision = arguments.number("revision", default=0)
        is_stale = arguments.consistency()[0] == "stale"

        def serve(state: Reader) -> dict[str, Any]:
            answer: dict[str, Any] = {"record": state.get(key or b"", revision)}
            if is_stale:
                answer["staleness_ms"] = age_ms(self._key_value)
            return answer

        return self._read(arguments, serve)

    # -- ranges -----------------------------------------------------------------------------------------------------

    def _range(self, found: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        arguments = Arguments(found, _RANGE_ARGUMENTS)
        question = self._question(arguments)
        position = self._ranges.position_of(question)
        consistency, max_stale = arguments.consistency()
        awaited: Deferred[dict[str, Any]] = Deferred(lambda _: None)

        def ready(error: RaftKVError | None) -> None:
            _settle(awaited, error, begin)

        def begin() -> dict[str, Any] | None:
            steps = self._ranges.begin(question, position)
            drawing = self._counted(steps) if question.count_only else self._drawn(steps, question.limit)
            return step(drawing)

        def step(drawing: Generator[bytes, None, dict[str, Any]]) -> dict[str, Any] | None:
            try:
                next(drawing)
            except StopIteration as ended:
                answer: dict[str, Any] = ended.value
                return answer
            self._ranges.go_on(
                lambda error: _settle(awaited, error, lambda: step(drawing)), is_wanted=lambda: not awaited.called
            )
            return None

        self._ranges.when_readable(position, consistency, max_stale, ready)
        return awaited

    def _question(self, arguments: Arguments) -> RangeQuestion:
        limit = self._max_key_bytes
        prefix, start, end, delimiter = (arguments.data(n, limit) for n in ("prefix", "start", "end", "delimiter"))
        if delimiter == b"":
            raise BadRequest("delimiter: must not be empty")
        low, high = named_range(prefix, start, end) or (b"", b"")
        token = arguments.token()
        if token is not None and len(token) > _MAX_TOKEN_CHARACTERS:
            raise BadRequest(f"continue: {len(token)} characters, at most {_MAX_TOKEN_CHARACTERS} make sense")
        return RangeQuestion(
            request=RangeRequest(
                start=low,
                end=high,
                reverse=arguments.flag("reverse"),
                keys_only=arguments.flag("keys_only"),
                prefix=prefix or b"",
                delimiter=delimiter or b"",
            ),
            limit=arguments.number("limit", default=0),
            revision=arguments.number("revision", default=0),
            count_only=arguments.flag("count_only"),
            token=token,
        )

    def _counted(self, steps: RangeSteps) -> Generator[bytes, None, dict[str, Any]]:
        count = yield from steps.counted()
        return {"count": count, "revision": steps.revision}

    def _drawn(self, steps: RangeSteps, limit: int) -> Generator[bytes, None, dict[str, Any]]:
        """Draw as much as one answer holds, with a rest after each step."""
        request = steps.request
        count = yield from steps.counted()
        left = min(limit, MAX_LISTED_AT_ONCE) if limit else MAX_LISTED_AT_ONCE
        items: list[tuple[bytes, Record]] = []
        folders: list[bytes] = []
        place, size_bytes = steps.beginning, 0
        while True:
            page = steps.page(place, left)
            found = [(key, (b"", *r[1:])) for key, r in page.items] if request.keys_only else page.items
            items += found
            folders += page.folders
            size_bytes += sum([len(key) + len(record[0]) for key, record in found]) + sum(map(len, page.folders))
            left -= len(found) + len(page.folders)
            place = page.next
            if place is None or left <= 0 or size_bytes >= MAX_RANGE_ANSWER_BYTES:
                break
            yield b""
        position = None if place is None else RangePosition(steps.revision, count, place)
        return {
            "items": items,
            "folders": folders,
            "count": count,
            "continue": None if position is None else self._ranges.seal(request, position),
            "revision": steps.revision,
        }

    # -- leases -----------------------------------------------------------------------------------------------------

    def _lease(self, found: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        arguments = Arguments(found, _LEASE_ARGUMENTS)
        number = arguments.number("lease")
        limit = arguments.number("limit", highest=MAX_LISTED, default=LISTED)
        after = arguments.data("after", self._max_key_bytes) or b""

        def serve(state: Reader) -> dict[str, Any]:
            lease = living_lease(state, number)
            keys = state.lease_keys(number, after, limit=min(limit, MAX_LISTED_AT_ONCE))
            remaining = remaining_ms(lease, state)
            return {"ttl_ms": lease.ttl_ms, "remaining_ms": remaining, "count": lease.keys, "keys": keys}

        return self._read(arguments, serve)

    def _leases(self, found: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        arguments = Arguments(found, _LEASES_ARGUMENTS)
        limit = min(arguments.number("limit", highest=MAX_LISTED, default=LISTED), MAX_LISTED_AT_ONCE)
        token = arguments.token()
        after: int = 0 if token is None else self._tokens.open(("leases",), token, (int,))[0]

        def serve(state: Reader) -> dict[str, Any]:
            listed = listed_leases(state, after, limit)
            told = [(each.lease, each.ttl_ms, remaining_ms(each, state), each.keys) for each in listed.leases]
            following = None if listed.last is None else self._tokens.seal(("leases",), (listed.last,))
            return {"leases": told, "count": state.lease_count, "continue": following}

        return self._read(arguments, serve)

    def _read(self, arguments: Arguments, serve: Callable[[Reader], T]) -> Deferred[T]:
        """Read in one step, as soon as that is allowed and there is time for it."""
        consistency, max_stale = arguments.consistency()
        awaited: Deferred[T] = Deferred(lambda _: None)

        def readable(error: RaftKVError | None) -> None:
            self._turns.soon(lambda: _settle(awaited, error, lambda: serve(self._key_value.state())))

        self._key_value.barrier(consistency, readable, max_stale_seconds=max_stale)
        return awaited


def age_ms(key_value: IKeyValue) -> int | None:
    """Return how old the state may be that is read now, ``None`` where that is not known; rounded up, as a bound."""
    staleness = key_value.staleness()
    return None if staleness is None else math.ceil(staleness * 1000)


def _settle(awaited: Deferred[Any], error: RaftKVError | None, work: Callable[[], Any]) -> None:
    """Give what the work returns, unless that is ``None``, or whatever it raises; whoever called us goes on."""
    if awaited.called:
        return  # who asked has gone
    try:
        if error is not None:
            raise error
        answer = work()
    except Exception as problem:
        awaited.errback(problem)
    else:
        if answer is not None:
            awaited.callback(answer)
