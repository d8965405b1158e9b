"""The settings outside of every section: where clients are served."""

from __future__ import annotations

from typing import Final

from raftkv.config.kinds import Boolean, ListenAddress, ReachableAddress
from raftkv.config.setting import Setting

LISTENERS: Final[tuple[Setting, ...]] = (
    Setting(
        key="rpcAddr",
        field="rpc_addr",
        kind=ListenAddress(),
        doc="Where the RPC server listens: the native client protocol, forwarding between nodes, joins. "
        '`":8081"` is every interface.',
    ),
    Setting(key="httpAddr", field="http_addr", kind=ListenAddress(), doc="Where the HTTP server listens."),
    Setting(
        key="rpcAdvertisedAddr",
        field="rpc_advertised_addr",
        kind=ReachableAddress(),
        derived="the host of `raft.advertisedAddr` with the port of `rpcAddr`",
        doc="What others use to reach the RPC server.",
    ),
    Setting(
        key="httpAdvertisedAddr",
        field="http_advertised_addr",
        kind=ReachableAddress(),
        derived="the host of `raft.advertisedAddr` with the port of `httpAddr`",
        doc="What others use to reach the HTTP server.",
    ),
    Setting(
        key="httpAccessLog",
        field="http_access_log",
        kind=Boolean(),
        doc="Whether each HTTP request is logged. It costs a fifth to a third of the HTTP throughput.",
    ),
)
