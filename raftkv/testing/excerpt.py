"""How much of a seed's story is told: all of it, or what is left of it once a failure has been made small.

A seed always draws the same faults and changes of members; an excerpt leaves some of them out, lets fewer clients work,
or ends the faults earlier, and disturbs the rest as little as that allows.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """What is told of a story; by default all of it.

    :ivar without: numbers of the faults that do not come, counted from 1 in the order in which they would, and of the
        changes of members, counted from 1001, of the lost disks, counted from 2001, and of states, counted from 3001.
    :ivar clients: how many clients there are at most; ``None`` for all of them.
    :ivar seconds: when the faults end at the latest; ``None`` for the usual time.
    """

    without: frozenset[int] = frozenset()
    clients: int | None = None
    seconds: float | None = None

    def arguments(self) -> list[str]:
        """Return the arguments of ``python -m raftkv.testing`` that ask for this excerpt."""
        arguments: list[str] = []
        if self.without:
            arguments += ["--without", ",".join(map(str, sorted(self.without)))]
        if self.clients is not None:
            arguments += ["--clients", str(self.clients)]
        if self.seconds is not None:
            arguments += ["--until", f"{self.seconds:g}"]
        return arguments


WHOLE = Excerpt()
