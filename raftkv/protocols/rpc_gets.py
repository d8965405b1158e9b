"""The reads of single keys on one connection of the RPC port.

All reads of one consistency that one read from the connection has brought share a barrier. What they answer is made as
the other side takes it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from raftkv.errors import BadRequest, Overloaded, RaftKVError, TooLarge
from raftkv.interfaces import Consistency
from raftkv.protocols.framing import pack
from raftkv.protocols.rpc_answers import AnsweringConnection
from raftkv.protocols.rpc_calls import age_ms
from raftkv.protocols.rpc_errors import encode_error
from raftkv.protocols.rpc_frames import (
    CONSISTENCIES,
    CONSISTENCY_NUMBERS,
    ERROR,
    MAX_ITEMS,
    MAX_STALE_MS,
    RESULT,
)


class GetConnection(AnsweringConnection):
    """A connection that answers GET."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        # Of the read that is being taken apart:
        self._gets: tuple[list[tuple[int, tuple[bytes, ...]]], ...] = ([], [], [])  # by number of consistency
        self._stale_gets: dict[int | None, list[tuple[int, tuple[bytes, ...]]]] = {}  # by milliseconds; told the age
        # Reads that may be served, but whose answers the other side must take first; and whether they are told the age.
        self._ready_gets: deque[tuple[int, tuple[bytes, ...], bool]] = deque()
        self._ready_get_bytes = 0

    def _take_get(self, request_id: int, keys: tuple[Any, ...], consistency: int) -> None:
        if not 0 <= consistency < len(CONSISTENCIES):
            raise BadRequest(f"consistency: unknown, found {consistency}")
        self._admit_get(keys)
        self._gets[consistency].append((request_id, keys))

    def _take_stale_get(
        self, request_id: int, keys: tuple[Any, ...], consistency: int, max_stale_ms: int | None
    ) -> None:
        if consistency != CONSISTENCY_NUMBERS["stale"]:
            raise BadRequest("max_stale: only for stale reads")
        if max_stale_ms is not None and not 0 <= max_stale_ms <= MAX_STALE_MS:
            raise BadRequest(f"max_stale: must be 0 to {MAX_STALE_MS} ms, found {max_stale_ms}")
        self._admit_get(keys)
        self._stale_gets.setdefault(max_stale_ms, []).append((request_id, keys))

    def _admit_get(self, keys: tuple[Any, ...]) -> None:
        if not 0 < len(keys) <= MAX_ITEMS:
            raise BadRequest(f"keys: must be 1 to {MAX_ITEMS}, found {len(keys)}")
        for key in keys:
            self._settings.rules.check_key(key)
        self._outstanding += len(keys)

    def _start_all_gets(self) -> None:
        """Hand over what one read has brought."""
        for number, gets in enumerate(self._gets):
            if gets:
                self._start_gets(CONSISTENCIES[number], gets.copy())
                gets.clear()
        stale, self._stale_gets = self._stale_gets, {}
        for max_stale_ms, gets in stale.items():
            bound = None if max_stale_ms is None else max_stale_ms / 1000
            self._start_gets("stale", gets, max_stale_seconds=bound, tells_age=True)

    def _start_gets(
        self,
        consistency: Consistency,
        gets: list[tuple[int, tuple[bytes, ...]]],
        *,
        max_stale_seconds: float | None = None,
        tells_age: bool = False,
    ) -> None:
        """Wait once for all of them, unless they are too much beside all others that wait."""
        bounds = self._bounds
        size_bytes = sum([len(key) for _, keys in gets for key in keys])
        try:
            bounds.begin_waiting(size_bytes)
        except Overloaded as error:
            self._refuse_gets(gets, error)
            return

        def allowed(error: RaftKVError | None) -> None:
            bounds.waiting_bytes -= size_bytes
            self._may_read(gets, error, tells_age=tells_age)

        self._key_value.barrier(consistency, allowed, max_stale_seconds=max_stale_seconds)

    def _may_read(
        self, gets: list[tuple[int, tuple[bytes, ...]]], error: RaftKVError | None, *, tells_age: bool
    ) -> None:
        if error is not None:
            self._refuse_gets(gets, error)
        elif not self.closing:
            self._ready_gets.extend((request_id, keys, tells_age) for request_id, keys in gets)
            self._serve_gets()

    def _refuse_gets(self, gets: list[tuple[int, tuple[bytes, ...]]], error: RaftKVError) -> None:
        encoded = encode_error(error)
        for request_id, keys in gets:
            self._answer((ERROR, request_id, *encoded))
            self._settled(len(keys))

    def _serve_gets(self) -> None:
        """Read and answer, as long as the other side takes the answers.

        A small request may have a large answer, so they are not all made at once. A read that is served later than
        its barrier sees a later state, which is as linearizable.
        """
        get, ready = self._key_value.get, self._ready_gets
        frames: list[bytes] = []
        served = 0
        size_bytes = 0
        while ready and not self.output_paused and not self.closing:
            request_id, keys, tells_age = ready.popleft()
            served += len(keys)
            age = (age_ms(self._key_value),) if tells_age else ()
            one = len(keys) == 1
            frame = pack((RESULT, request_id, (get(keys[0]),), *age)) if one else self._get_many(request_id, keys, age)
            frames.append(frame)
            size_bytes += len(frame)
            if size_bytes > self._settings.max_group_bytes:
                self.send_packed(frames)
                frames, size_bytes = [], 0
        if frames and not self.closing:
            self.queue_packed(frames, self._key_value.at_turn_end)
        if ready or self._ready_get_bytes:
            self._ready_get_bytes = sum([len(key) for _, keys, _ in ready for key in keys])
            self._count_kept()
        self._settled(served)

    def _kept(self) -> int:
        return super()._kept() + self._ready_get_bytes

    def _get_many(self, request_id: int, keys: tuple[bytes, ...], age: tuple[int | None, ...]) -> bytes:
        get, limit = self._key_value.get, self._settings.max_answer_bytes
        records = []
        size_bytes = 0
        for key in keys:
            record = get(key)
            records.append(record)
            if record is not None:
                size_bytes += len(record[0])
                if size_bytes > limit:
                    error = TooLarge(f"the values of these {len(keys)} keys exceed {limit} bytes; ask for fewer")
                    return pack((ERROR, request_id, *encode_error(error)))
        return pack((RESULT, request_id, records, *age))

    def _serve(self) -> None:
        super()._serve()
        if self._ready_gets:
            # They may have waited for long, and what a barrier promises ends with the state: one that was found to be
            # wrong is replaced by an older one, which for a while lacks what was acknowledged.
            self._key_value.barrier("stale", self._serve_waiting_gets)

    def _serve_waiting_gets(self, error: RaftKVError | None) -> None:
        if error is None:
            self._serve_gets()
        else:
            waiting = [(request_id, keys) for request_id, keys, _ in self._ready_gets]
            self._ready_gets.clear()
            self._ready_get_bytes = 0
            self._count_kept()
            self._refuse_gets(waiting, error)
