"""The composition of a node: every part with the real reactor, disk, threads and sockets.

Everything that can be wrong with a start (configuration, data directory, ports) is found while there is still a
terminal: a service made here may be started in a forked child.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from prometheus_client import ProcessCollector
from twisted.application.service import IService
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.config import Address, Limits, NodeConfig
from raftkv.daemon.collector import Collector
from raftkv.daemon.pidfile import PidFile
from raftkv.daemon.ports import BoundEndpoint
from raftkv.daemon.process import (
    Supervisor,
    steady_seconds,
)
from raftkv.daemon.steps import DirectoryLock, StopStep
from raftkv.errors import CorruptData, DamagedLog
from raftkv.interfaces import Identity, Standing
from raftkv.kvstore.checking import CommandLimits
from raftkv.membership import Founding, Joining, join_request
from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.log import LogSettings
from raftkv.persistence.membership import refuse_removed, store_joined
from raftkv.persistence.pace import Pace
from raftkv.persistence.worker import ThreadWorker
from raftkv.protocols.asking import AnsweringPort, ask_standing
from raftkv.protocols.command_rules import CommandRules
from raftkv.protocols.forwarding import RpcForwarder
from raftkv.protocols.framing import FrameLimits
from raftkv.protocols.hello import Purpose, client_identity
from raftkv.protocols.peer import PeerService, PeerSettings
from raftkv.protocols.rpc import RpcService, RpcSettings, node_calls
from raftkv.protocols.rpc_settings import frame_limits
from raftkv.protocols.snapshots import ISnapshotSink, ISnapshotSource, TransferSettings
from raftkv.protocols.warnings import RateLimitedLog
from raftkv.server.archiving import ArchiveSurroundings
from raftkv.server.assembly import Surroundings, assemble, assemble_repair
from raftkv.server.beginning import Beginning, add_parts
from raftkv.server.origin import has_begun, identity_to_begin_with
from raftkv.server.progress import Progress
from raftkv.server.replica import Replica
from raftkv.server.services import OrderedServices
from raftkv.server.waiting import Waiting
from raftkv.web import Api, ApiSite, HttpService, WebSettings

_log = Logger()
_DIAL_SECONDS = 1.0
_TWISTD_PIDFILE = "twistd.pid"


def compose(config: NodeConfig, reactor: Any, *, pidfile: str | None = None) -> IService:
    """Put a node together, bottom to top: its parts start in this order, and stop in the reverse one.

    One that has to join a cluster begins with the lowest parts; the others follow once it has been taken in.

    :param reactor: the real one.
    :raises raftkv.errors.ConfigurationError: the directory or a port is taken, or not as configured.
    :raises raftkv.errors.StorageError: the data cannot be read, or cannot be trusted.
    """
    disk = LocalDisk(config.data_dir)
    disk.prepare()
    refuse_removed(disk)
    raft_port, rpc_port, http_port = _bind(config, reactor)
    supervisor = Supervisor(reactor=reactor, node_id=config.node_id)
    others = _OtherNodes(config, reactor, raft_port)
    services = OrderedServices()

    def surroundings() -> Surroundings:
        return Surroundings(
            clock=reactor,
            random=_random(),
            steady_seconds=steady_seconds,
            wall_seconds=time.time,
            disk=disk,
            log_worker=ThreadWorker(reactor, "raftkv-log", pace=Pace(limit_seconds=config.quick_sync_seconds)),
            log_reader=ThreadWorker(reactor, "raftkv-log-reader"),
            snapshot_worker=ThreadWorker(reactor, "raftkv-snapshot"),
            transport=others.make_transport,
            forwarder=others.make_forwarder,
            make_id=_make_id,
            fatal=supervisor.fatal,
            progress=Progress("read {percent} % of the log, {done} of {total} bytes", seconds=reactor.seconds),
            log_settings=LogSettings.sized(config.log_segment_bytes),
            unreadable=_say_unreadable,
            archive=_archive(config, reactor),
        )

    def make_node() -> Iterator[Any]:
        try:
            node = assemble(config, surroundings())
        except DamagedLog as damage:
            yield make_repair(damage)
            return
        yield node.transport
        yield StopStep(others.stop_forwarding)
        yield node.replica
        calls = {**node_calls(node.replica), **node.replica.calls()}
        yield from _interfaces(config, reactor, (rpc_port, http_port), node.identity, node.replica, calls)
        yield StopStep(node.replica.hand_over)

    def make_repair(damage: DamagedLog) -> IService:
        parts = OrderedServices()
        made = assemble_repair(
            config, surroundings(), damage, repaired=lambda: reactor.callLater(0, start_repaired, parts)
        )
        waiting = made.repairing.waiting
        calls = {**node_calls(waiting), **made.repairing.calls()}
        interfaces = _interfaces(config, reactor, (rpc_port, http_port), made.identity, waiting, calls)
        add_parts(parts, (made.transport, StopStep(others.stop_forwarding), made.repairing, *interfaces))
        return parts

    def start_repaired(repair: OrderedServices) -> None:
        if not services.running:
            return

        def failed(failure: Failure) -> None:
            supervisor.fatal(failure.value or RuntimeError("the repaired node cannot be put together"))

        stopped: Deferred[Any] = maybeDeferred(repair.disownServiceParent)
        stopped.addCallback(lambda _: add_parts(services, make_node())).addErrback(failed)

    add_parts(services, (supervisor, Collector(reactor), DirectoryLock(disk), *([PidFile(pidfile)] if pidfile else [])))
    if config.is_alone or has_begun(disk):
        add_parts(services, make_node())
    else:
        beginning = Beginning(
            services=services,
            clock=reactor,
            store=lambda joined: store_joined(disk, joined),
            make_node=make_node,
            fatal=supervisor.fatal,
        )
        identity = identity_to_begin_with(config, disk, make_id=_make_id)
        waiting = Waiting(node_id=config.node_id, reason=lambda: beginning.reason, seconds=reactor.seconds)
        calls = {**node_calls(waiting), **waiting.calls()}
        beginning.wait_with(*_interfaces(config, reactor, (rpc_port, http_port), identity, waiting, calls))
        if not config.join:  # nobody asks a node that is no founder
            beginning.wait_with(
                AnsweringPort(identity=identity, endpoint=raft_port, clock=reactor, limits=others.frame_limits)
            )
        _ask(config, reactor, identity, others, beginning, supervisor.fatal)
    _say_who_can_reach(config)
    return services


def _interfaces(
    config: NodeConfig,
    reactor: Any,
    ports: tuple[BoundEndpoint, BoundEndpoint],
    identity: Identity,
    node: Replica | Waiting,
    calls: Mapping[str, Callable[[Mapping[str, Any]], object]],
) -> Iterator[Any]:
    """Make what clients talk to."""
    rpc_port, http_port = ports
    yield RpcService(
        identity=identity,
        endpoint=rpc_port,
        clock=reactor,
        key_value=node,
        calls=calls,
        settings=_rpc_settings(config),
    )
    api = Api(
        key_value=node,
        node=node,
        settings=_web_settings(config),
        clock=reactor,
        wall_seconds=time.time,
        collectors=(ProcessCollector(registry=None),),
        backups=node.backups,
    )
    yield HttpService(endpoint=http_port, site=ApiSite(reactor=reactor, api=api))


def _ask(
    config: NodeConfig,
    reactor: Any,
    identity: Identity,
    others: _OtherNodes,
    beginning: Beginning,
    fatal: Callable[[BaseException], None],
) -> None:
    """Let a node without a data directory find out how to begin."""

    def joining(addresses: Callable[[], Sequence[str]]) -> Joining:
        return Joining(
            request=join_request(config, identity.incarnation),
            addresses=addresses,
            forwarder=forwarder,
            clock=reactor,
            joined=beginning.found_out,
            refused=fatal,
        )

    forwarder = others.make_client()
    beginning.wait_with(StopStep(forwarder.stop))
    if config.join:
        beginning.ask(joining(lambda: config.join))
        return
    founding = Founding(
        own=identity,
        peers=config.initial_peers(),
        ask=lambda peer, address: others.ask(identity, peer, address),
        clock=reactor,
        patience_seconds=3 * config.election_timeout_seconds,
        founded=beginning.found_out,
        rejoin=lambda: beginning.ask_too(lambda: joining(lambda: founding.addresses)),
        failed=fatal,
    )
    beginning.ask(founding)


class _OtherNodes:
    """The ways to the other members and to the leader, made once it is known who we are."""

    def __init__(self, config: NodeConfig, reactor: Any, endpoint: IStreamServerEndpoint) -> None:
        self._limits = config.limits
        self._settings = _peer_settings(config)
        self._reactor = reactor
        self._endpoint = endpoint
        self._forwarder: RpcForwarder | None = None

    def make_transport(
        self, identity: Identity, source: ISnapshotSource, sink: ISnapshotSink, current_term: Callable[[], int]
    ) -> PeerService:
        """Return what carries Raft's messages."""
        return PeerService(
            identity=identity,
            endpoint=self._endpoint,
            connect=self._dial,
            clock=self._reactor,
            random=_random(),
            settings=self._settings,
            source=source,
            sink=sink,
            current_term=current_term,
        )

    def make_forwarder(self, identity: Identity) -> RpcForwarder:
        """Return what carries writes to the leader."""
        self._forwarder = RpcForwarder(
            identity=identity,
            connect=self._dial,
            clock=self._reactor,
            request_timeout_seconds=self._limits.request_timeout_seconds,
            limits=_rpc_frame_limits(self._limits),
        )
        return self._forwarder

    def make_client(self) -> RpcForwarder:
        """Return what asks a cluster that this node does not belong to."""
        return RpcForwarder(
            identity=client_identity(),
            purpose=Purpose.CLIENT,
            connect=self._dial,
            clock=self._reactor,
            request_timeout_seconds=self._limits.request_timeout_seconds,
        )

    @property
    def frame_limits(self) -> FrameLimits:
        """The limits of connections to the Raft port."""
        return FrameLimits(hello_seconds=self._limits.header_timeout_seconds)

    def ask(self, identity: Identity, peer: str, address: str) -> Deferred[Standing]:
        """Ask a node what it holds."""
        return ask_standing(
            self._dial(address),
            peer=peer,
            identity=identity,
            clock=self._reactor,
            limits=self.frame_limits,
            warnings=RateLimitedLog(_log, clock=self._reactor),
        )

    def stop_forwarding(self) -> Deferred[None]:
        """Close the connections to leaders."""
        return succeed(None) if self._forwarder is None else self._forwarder.stop()

    def _dial(self, address: str) -> IStreamClientEndpoint:
        target = Address.parse(address)
        # An IP address is dialled as it is, without a resolver's thread.
        for is_literal, endpoint in ((isIPAddress, TCP4ClientEndpoint), (isIPv6Address, TCP6ClientEndpoint)):
            if is_literal(target.host):
                return endpoint(self._reactor, target.host, target.port, timeout=_DIAL_SECONDS)
        return HostnameEndpoint(self._reactor, target.host, target.port, timeout=_DIAL_SECONDS)


def _make_id() -> str:
    """Return an id that nothing else has, as hex."""
    return secrets.token_hex(16)


def _random() -> random.Random:
    """Return a source of chance that no other node has."""
    return random.Random(secrets.randbits(64))


def _archive(config: NodeConfig, reactor: Any) -> ArchiveSurroundings | None:
    if not config.archive_dir:
        return None
    return ArchiveSurroundings(disk=LocalDisk(config.archive_dir), worker=ThreadWorker(reactor, "raftkv-archive"))


def _listeners(config: NodeConfig) -> dict[str, Address]:
    return {"raft.bindAddr": config.raft_bind_addr, "rpcAddr": config.rpc_addr, "httpAddr": config.http_addr}


def _bind(config: NodeConfig, reactor: Any) -> list[BoundEndpoint]:
    """Return the endpoints for Raft, RPC and HTTP, in this order."""
    listeners = _listeners(config).items()
    return [BoundEndpoint(reactor=reactor, setting=setting, address=address) for setting, address in listeners]


def _peer_settings(config: NodeConfig) -> PeerSettings:
    return PeerSettings(
        limits=FrameLimits(hello_seconds=config.limits.header_timeout_seconds),
        transfer=TransferSettings(bytes_per_second=config.snapshot_rate_bytes),
    )


def _rpc_settings(config: NodeConfig) -> RpcSettings:
    limits = config.limits
    return RpcSettings(
        limits=replace(_rpc_frame_limits(limits), hello_seconds=limits.header_timeout_seconds),
        rules=CommandRules(command_limits(limits)),
        max_connections=limits.max_connections,
        max_unfinished_bytes=limits.max_buffered_body_bytes,
        max_unread_bytes=limits.max_unread_bytes,
        unread_seconds=limits.idle_timeout_seconds,
        drain_seconds=limits.request_timeout_seconds,
    )


def _rpc_frame_limits(limits: Limits) -> FrameLimits:
    return frame_limits(max_transaction_operations=limits.max_transaction_operations)


def command_limits(limits: Limits) -> CommandLimits:
    """Return what commands may be, as the settings say."""
    return CommandLimits(
        max_key_bytes=limits.max_key_bytes,
        max_value_bytes=limits.max_value_bytes,
        max_transaction_operations=limits.max_transaction_operations,
        max_transaction_bytes=limits.max_transaction_bytes,
        min_lease_ttl_seconds=limits.min_lease_ttl_seconds,
        max_lease_ttl_seconds=limits.max_lease_ttl_seconds,
        max_lock_wait_seconds=limits.max_lock_wait_seconds,
    )


def _web_settings(config: NodeConfig) -> WebSettings:
    limits = config.limits
    return WebSettings(
        max_key_bytes=limits.max_key_bytes,
        max_value_bytes=limits.max_value_bytes,
        max_body_bytes=limits.max_body_bytes,
        max_header_bytes=limits.max_header_bytes,
        header_timeout_seconds=limits.header_timeout_seconds,
        body_timeout_seconds=limits.body_timeout_seconds,
        idle_timeout_seconds=limits.idle_timeout_seconds,
        max_connections=limits.max_connections,
        max_buffered_body_bytes=limits.max_buffered_body_bytes,
        max_unread_bytes=limits.max_unread_bytes,
        watch_buffer_bytes=limits.watch_buffer_bytes,
        access_log=config.http_access_log,
        commands=command_limits(limits),
    )


def _say_unreadable(error: CorruptData) -> None:
    _log.warn("a snapshot cannot be used, looking for an older one: {reason}", reason=error)


def _say_who_can_reach(config: NodeConfig) -> None:
    listeners = _listeners(config).items()
    open_to_others = [f"{setting} {address}" for setting, address in listeners if not address.is_loopback]
    if open_to_others:
        _log.warn(
            "there is no authentication yet: whoever reaches {listeners} can read and write everything",
            listeners=", ".join(open_to_others),
        )
