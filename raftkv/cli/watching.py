"""Who leads, found out by asking every node over HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Sequence
from typing import Any

from raftkv.config import Address, NodeConfig

Ask = Callable[[NodeConfig], dict[str, Any] | None]
_TIMEOUT_SECONDS = 0.5


def ask_status(config: NodeConfig) -> dict[str, Any] | None:
    """Return a node's ``/v1/status``, or ``None`` where it does not answer properly."""
    address = Address.parse(config.http_advertised_addr)
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/v1/status")
        value = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return value if isinstance(value, dict) and "role" in value else None


class LeaderWatch:
    """Notices changes of leader.

    :param configs: the nodes to ask.
    :param ask: how to ask one.
    """

    def __init__(self, configs: Sequence[NodeConfig], ask: Ask = ask_status) -> None:
        self._configs = configs
        self._ask = ask
        self._known: tuple[int, str] | None = None
        self._statuses: list[dict[str, Any]] = []

    def look(self) -> str | None:
        """Ask everybody; return a sentence if another node leads, or one in another term, than when last told."""
        self._statuses = [status for status in map(self._ask, self._configs) if status is not None]
        # Two may believe to lead while a new election has just been won; the later term is right (section 5.1).
        leaders = [(status["term"], status["node_id"]) for status in self._statuses if status["role"] == "leader"]
        if not leaders or (self._known is not None and max(leaders) <= self._known):
            return None
        self._known = max(leaders)
        return self._sentence()

    def summary(self) -> str:
        """Say who leads and what the store holds."""
        newest = max(self._statuses, key=lambda status: status["revision"], default=None)
        holds = f"; {newest['keys']} keys at revision {newest['revision']}" if newest else ""
        return f"{self._sentence()}{holds}"

    def _sentence(self) -> str:
        return "no leader is known" if self._known is None else f"{self._known[1]} leads in term {self._known[0]}"
