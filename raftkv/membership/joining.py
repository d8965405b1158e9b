"""A node with an empty data directory asks a running cluster to take it in.

It asks one address after the other until some leader has committed it as a member, and hands over what the cluster
said. What is then written and started is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from raftkv.config import NodeConfig
from raftkv.errors import BadRequest, Conflict, NotFound, RaftKVError
from raftkv.interfaces import IForwarder, Joined
from raftkv.raft.configuration import Configuration

_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 4.0


class JoinRefused(Exception):
    """The cluster will never take this node in as it is; the message says why."""


def join_request(config: NodeConfig, incarnation: str) -> dict[str, Any]:
    """Return what a node says of itself when it asks to be taken in."""
    return {
        "id": config.node_id,
        "incarnation": incarnation,
        "raft_addr": config.raft_advertised_addr,
        "rpc_addr": config.rpc_advertised_addr,
        "http_addr": config.http_advertised_addr,
    }


def joined_from(answer: Any, incarnation: str) -> Joined:
    """Return what the answer to a :func:`join_request` means.

    :raises ValueError: it makes no sense.
    """
    if not isinstance(answer, Mapping) or not isinstance(answer.get("cluster_id"), str) or not answer["cluster_id"]:
        raise ValueError("the answer names no cluster")
    try:
        configuration = Configuration.decode(str(answer["configuration"]).encode())
        index = int(answer["configuration_index"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the answer holds no configuration: {error!r}") from error
    return Joined(
        incarnation=incarnation,
        cluster_id=answer["cluster_id"],
        configuration=configuration,
        configuration_index=index,
    )


class Joining(Service):
    """Asks until it is answered.

    :param request: see :func:`join_request`.
    :param addresses: returns RPC addresses of the cluster, as they are known by then.
    :param joined: called once, with the answer.
    :param refused: called once, in place of ``joined``, with what makes it useless to ask again.
    :ivar reason: what it waits for, for people.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        request: Mapping[str, Any],
        addresses: Callable[[], Sequence[str]],
        forwarder: IForwarder,
        clock: IReactorTime,
        joined: Callable[[Joined], None],
        refused: Callable[[Exception], None],
    ) -> None:
        self.reason = f"asking {', '.join(addresses())} to be taken in"
        self._request = request
        self._addresses = addresses
        self._forwarder = forwarder
        self._clock = clock
        self._joined = joined
        self._refused = refused
        self._asking: Deferred[Joined] | None = None

    def startService(self) -> None:
        """Begin to ask."""
        super().startService()
        self._asking = ensureDeferred(self._ask())
        self._asking.addCallback(self._joined).addErrback(self._ended)

    def stopService(self) -> Deferred[None]:
        """Ask no more."""
        super().stopService()
        if self._asking is not None:
            self._asking.cancel()
        return succeed(None)

    def _ended(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self._refused(failure.value)

    async def _ask(self) -> Joined:
        wait_seconds = _FIRST_WAIT_SECONDS
        node_id = self._request["id"]
        self._log.info(
            "{node_id} asks to join the cluster at {addresses}", node_id=node_id, addresses=", ".join(self._addresses())
        )
        while True:
            for address in self._addresses():
                joined = await self._ask_one(address)
                if joined is not None:
                    self._log.info(
                        "{node_id} is a member of cluster {cluster_id}", node_id=node_id, cluster_id=joined.cluster_id
                    )
                    return joined
            await deferLater(self._clock, wait_seconds)
            wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)

    async def _ask_one(self, address: str) -> Joined | None:
        try:
            answer = await self._forwarder.call(address, "join", self._request)
            return joined_from(answer, self._request["incarnation"])
        except (BadRequest, Conflict, NotFound) as error:
            raise JoinRefused(f"{self._request['id']} cannot join: {address} refused: {error}") from None
        except (RaftKVError, ValueError) as error:
            self.reason = f"asking to be taken in: {address}: {error}"
            self._log.warn(
                "{node_id} cannot join yet, and tries again: {address}: {reason}",
                node_id=self._request["id"],
                address=address,
                reason=error,
            )
            return None
