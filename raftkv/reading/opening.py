"""When a range may be read, at which revision, and from which place on: the same for every interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raftkv.errors import FutureRevision, RaftKVError
from raftkv.interfaces import Consistency, IKeyValue
from raftkv.reading.ranges import RangePosition, RangeRequest, RangeSteps
from raftkv.reading.tokens import ContinueTokens, not_ours
from raftkv.reading.turns import Turns


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeQuestion:
    """What one request wants to know.

    :ivar limit: records and folders at most; 0 for all.
    :ivar revision: 0 for the present one, or that of the token.
    :ivar token: what the page before said comes next; ``None`` for the beginning.
    """

    request: RangeRequest
    limit: int = 0
    revision: int = 0
    count_only: bool = False
    token: bytes | None = None


class Ranges:
    """The ranges of one store.

    :param turns: where all of them have their turns, a step at a time.
    """

    def __init__(self, key_value: IKeyValue, tokens: ContinueTokens, turns: Turns) -> None:
        self._key_value = key_value
        self._tokens = tokens
        self._turns = turns

    def position_of(self, question: RangeQuestion) -> RangePosition | None:
        """Return where a question's token says that the range goes on; ``None`` where it has none.

        :raises BadRequest: the token was not made here, or for another request.
        """
        token, request = question.token, question.request
        if token is None:
            return None
        position = RangePosition(*self._tokens.open(request.identity(), token, (int, int, bytes)))
        is_same = question.revision in (0, position.revision) and not question.count_only
        if not is_same or position.revision < 1 or not request.holds(position.place):
            raise not_ours(token)
        return position

    def when_readable(
        self,
        position: RangePosition | None,
        consistency: Consistency,
        max_stale_seconds: float | None,
        ready: Callable[[RaftKVError | None], None],
    ) -> None:
        """Wait until a range may be begun.

        :param ready: called once there is time for a step, with ``None``, or with why it may not.
        """

        def readable(error: RaftKVError | None) -> None:
            if error is None and position is not None and position.revision > self._key_value.revision():
                # Another node made the token, and this one has not come so far: that is for the leader to say.
                self._key_value.barrier("lease", soon)
            else:
                soon(error)

        def soon(error: RaftKVError | None) -> None:
            # Read a little later, the state is a later one, and no less consistent.
            self._turns.soon(lambda: ready(error))

        self._key_value.barrier(consistency, readable, max_stale_seconds=max_stale_seconds)

    def begin(self, question: RangeQuestion, position: RangePosition | None) -> RangeSteps:
        """Fix the revision, and return the steps; call it from ``ready``.

        :raises FutureRevision: there has been no such revision yet.
        """
        state = self._key_value.state
        revision = question.revision or state().revision if position is None else position.revision
        if revision > state().revision:
            raise FutureRevision(state().revision)
        return RangeSteps(question.request, state, revision=revision, position=position)

    def go_on(self, step: Callable[[RaftKVError | None], None], *, is_wanted: Callable[[], bool]) -> None:
        """Have another step taken in a later turn of the reactor.

        :param step: called with ``None``, or with why nothing may be read any more: what was promised at the beginning
            holds for the revision, but the node may have been removed since, or its state been found to be wrong.
        :param is_wanted: whether anybody waits for it still; asked just before.
        """

        def take() -> None:
            if is_wanted():
                self._key_value.barrier("stale", step)

        self._turns.later(take)

    def seal(self, request: RangeRequest, position: RangePosition) -> str:
        """Return the token for a place."""
        return self._tokens.seal(request.identity(), position)
