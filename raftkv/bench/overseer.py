"""Who hears how a load goes, and may redirect or end it. Here: only somebody who wants to know when it begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from raftkv.bench.figures import Measured

#: Seconds between two reports: so short that each is a pause of some ten microseconds, and none of a millisecond.
REPORT_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Move:
    """An order: ask these from now on.

    :ivar addresses: as in :class:`~raftkv.bench.specification.Load`; likewise ``others``.
    """

    addresses: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """An order: ask for nothing more, and come to an end."""


Order: TypeAlias = Move | Stop


class Overseer(Protocol):
    """Who hears how a load goes.

    :ivar descriptor: of a file; when it can be read there are orders. ``None``: there will be none.
    """

    @property
    def descriptor(self) -> int | None: ...

    def begun(self) -> None:
        """The warm-up is over; what was measured in it has been forgotten."""

    def report(self, measured: Measured) -> None:
        """Take what was measured since the last report, if anything: whoever takes it empties it.

        :param measured: ``seconds`` is the time since the beginning; latencies and errors are those of this report.
        """

    def orders(self) -> Sequence[Order]:
        """Return what has been ordered; called when the descriptor can be read."""


class Silent:
    """An overseer that takes nothing, so that all that was measured is there at the end.

    :param begun: called when the warm-up is over.
    """

    descriptor: int | None = None

    def __init__(self, begun: Callable[[], None]) -> None:
        self._begun = begun

    def begun(self) -> None:
        """Pass it on."""
        self._begun()

    def report(self, measured: Measured) -> None:
        """Leave it where it is."""

    def orders(self) -> Sequence[Order]:
        """There are none."""
        return ()
