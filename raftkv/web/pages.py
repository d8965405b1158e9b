"""Lists that come in pages of the present state: leases, locks. Each page is of its own moment.

That is unlike ranges of keys, which are read at one revision: there is no past of who held what.
"""

from __future__ import annotations

from typing import TypeVar

from raftkv.reading.leases import LISTED, MAX_LISTED
from raftkv.reading.tokens import ContinueTokens
from raftkv.web.queries import Parameters, number_of

_After = TypeVar("_After", bytes, int)


def limit_of(parameters: Parameters) -> int:
    """Return how many to list.

    :raises BadRequest: it is no such number.
    """
    return number_of(parameters, "limit", highest=MAX_LISTED, default=LISTED)


def after_of(parameters: Parameters, tokens: ContinueTokens, what: str, beginning: _After) -> _After:
    """Return behind what to go on.

    :param what: is listed: a token for something else is refused.
    :param beginning: what stands before everything.
    :raises BadRequest: the token was not made here, or for another list.
    """
    token = parameters.get("continue")
    if token is None:
        return beginning
    after: _After = tokens.open((what,), token, (type(beginning),))[0]
    return after


def next_of(found: int, limit: int, last: bytes | int, tokens: ContinueTokens, what: str) -> str | None:
    """Return the token for the page behind ``last``; ``None`` where this one was not full."""
    return tokens.seal((what,), (last,)) if found == limit else None
