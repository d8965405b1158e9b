"""What ``continue`` says: where the next page begins, sealed.

A token is made by any node of the cluster and understood by each of them: they have nothing in common but the id of
their cluster. That is no secret, so the seal keeps nobody out; it finds what was cut, altered, or made for another
request or another cluster, which must not be read as a place in this range. Whoever makes one on purpose gets nothing
by it: the types are checked here, and that the place lies in the range where it is used.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

import msgpack

from raftkv.errors import BadRequest

_SEAL_BYTES: Final = 12
_SHOWN_BYTES: Final = 80  # of a token that leads nowhere, in the message

Position = tuple[Any, ...]


class ContinueTokens:
    """Seals and opens tokens.

    :param cluster_id: returns the id of the cluster; called for each token.
    """

    def __init__(self, cluster_id: Callable[[], str]) -> None:
        self._cluster_id = cluster_id

    def seal(self, request: Position, position: Position) -> str:
        """Return the token for a place.

        :param request: what must be the same in the next request, as a tuple that msgpack can carry; likewise
        :param position: what to know of the place.
        """
        payload = msgpack.packb(position)
        return urlsafe_b64encode(self._seal_of(request, payload) + payload).rstrip(b"=").decode("ascii")

    def open(self, request: Position, token: bytes, types: tuple[type, ...]) -> Position:
        """Return the place that a token was made for.

        :param types: those of what is to be known of it.
        :raises BadRequest: it was not made here, or for another request.
        """
        try:
            sealed = urlsafe_b64decode(token + b"=" * (-len(token) % 4))
        except (Error, ValueError):
            sealed = b""
        seal, payload = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
        # The decoder skips what is no Base64, so that the token could have been altered without it: hence the way back.
        if seal == self._seal_of(request, payload) and urlsafe_b64encode(sealed).rstrip(b"=") == token:
            position = _unpacked(payload)
            if type(position) is tuple and tuple(map(type, position)) == types:
                return position
        raise not_ours(token)

    def _seal_of(self, request: Position, payload: bytes) -> bytes:
        sealed = msgpack.packb((self._cluster_id(), request, payload))
        return blake2b(sealed, digest_size=_SEAL_BYTES, person=b"raftkv continue").digest()


def not_ours(token: bytes) -> BadRequest:
    """Make the error for a token that leads nowhere."""
    shown = token[:_SHOWN_BYTES].decode("utf-8", "backslashreplace")
    more = "…" if len(token) > _SHOWN_BYTES else ""
    return BadRequest(f"continue: it was not made here, or for another request: {shown!r}{more}")


def _unpacked(payload: bytes) -> Any:
    try:
        return msgpack.unpackb(payload, use_list=False, max_map_len=0, max_ext_len=0)
    except Exception:
        # Unpacking raises half a dozen classes without a common base; none of them was packed here.
        return None
