"""What a CALL brings, checked: each argument by its name, its type and its bounds.

Each refusal is a :exc:`raftkv.errors.BadRequest` that names the argument. Nothing is ignored: an argument of a newer
client that this node does not know would change what is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from raftkv.errors import BadRequest, TooLarge
from raftkv.interfaces import Consistency
from raftkv.kvstore.checking import NUMBER_LIMIT
from raftkv.protocols.rpc_frames import CONSISTENCIES, MAX_STALE_MS

#: Those that every read may have: the number of a consistency and, for stale reads, how many milliseconds at the most.
READ_ARGUMENTS: Final = frozenset({"consistency", "max_stale_ms"})

MAX_ARGUMENT_BYTES: Final = 256 * 1024  #: of all of a call: two keys and a token, however long keys may be
_PART_BYTES: Final = 8  # what anything else than a text or bytes counts as, and an array or a map besides its parts


def check_weight(found: Mapping[str, Any], *, nested: bool) -> int:
    """Refuse arguments that would cost more to keep than any that make sense, before anything else is known of them.

    :param nested: whether an argument may hold others, as those of calls about members do.
    :return: how many bytes they are together.
    :raises BadRequest: one holds others and must not.
    :raises TooLarge: they are more than ``MAX_ARGUMENT_BYTES`` together.
    """
    size_bytes = 0
    parts: list[Any] = []  # still to be weighed; not by recursion, which ends before msgpack's nesting does
    for name, value in found.items():
        if not nested and isinstance(value, (tuple, dict)):
            raise BadRequest(f"{str(name)[:80]}: expected a single value, found several")
        parts += (name, value)
    while parts:
        part = parts.pop()
        size_bytes += len(part) if isinstance(part, (bytes, str)) else _PART_BYTES
        if isinstance(part, tuple):
            parts += part
        elif isinstance(part, dict):
            parts += part.keys()
            parts += part.values()
    if size_bytes > MAX_ARGUMENT_BYTES:
        raise TooLarge(f"the arguments have {size_bytes} bytes, at most {MAX_ARGUMENT_BYTES} are allowed")
    return size_bytes


class Arguments:
    """The arguments of one call.

    :param found: as the unpacker found them; nil is as good as absent.
    :param known: the names that this call has.
    :raises BadRequest: there is another one.
    """

    def __init__(self, found: Mapping[str, Any], known: Collection[str]) -> None:
        self._found = found
        for name in found:
            if name not in known:
                raise BadRequest(f"arguments: unknown {str(name)[:80]!r}; known here: {', '.join(sorted(known))}")

    def number(self, name: str, *, lowest: int = 1, highest: int = NUMBER_LIMIT - 1, default: int | None = None) -> int:
        """Return a whole number.

        :param default: what a missing one means; ``None`` where it must be there.
        """
        value = self._found.get(name)
        if value is None and default is not None:
            return default
        if type(value) is not int or not lowest <= value <= highest:
            raise BadRequest(f"{name}: expected a whole number from {lowest} to {highest}, found {value!r:.80}")
        return value

    def flag(self, name: str) -> bool:
        """Return true or false, which is the latter where it is missing."""
        value = self._found.get(name)
        if value is not None and type(value) is not bool:
            raise BadRequest(f"{name}: expected true or false, found {value!r:.80}")
        return bool(value)

    def data(self, name: str, max_bytes: int) -> bytes | None:
        """Return bytes, ``None`` where there are none.

        :raises TooLarge: they are more than ``max_bytes``.
        """
        value = self._found.get(name)
        if value is None:
            return None
        if type(value) is not bytes:
            raise BadRequest(f"{name}: must be bin, found {type(value).__name__}")
        if len(value) > max_bytes:
            raise TooLarge(f"{name}: {len(value)} bytes, at most {max_bytes} are allowed")
        return value

    def token(self) -> bytes | None:
        """Return what says where to go on, ``None`` for the beginning."""
        value = self._found.get("continue")
        if value is None:
            return None
        if type(value) is not str:
            raise BadRequest(f"continue: must be a string, found {type(value).__name__}")
        return value.encode("utf-8", "surrogatepass")

    def consistency(self) -> tuple[Consistency, float | None]:
        """Return what kind of read it is, and how many seconds a stale one may lag behind."""
        consistency = CONSISTENCIES[self.number("consistency", lowest=0, highest=len(CONSISTENCIES) - 1, default=0)]
        max_stale_ms = self.number("max_stale_ms", lowest=0, highest=MAX_STALE_MS, default=-1)
        if max_stale_ms >= 0 and consistency != "stale":
            raise BadRequest("max_stale: only for stale reads")
        return consistency, None if max_stale_ms < 0 else max_stale_ms / 1000
