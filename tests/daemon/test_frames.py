"""What the settings mean for the frames that nodes exchange on their RPC ports."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv import composition
from raftkv.config import parse_config
from raftkv.protocols.hello import client_identity


class FrameTests(SynchronousTestCase):
    """Both sides of a forwarded write."""

    def test_long_transactions(self) -> None:
        """Who forwards takes in as long an answer as the port takes a request: that of the longest transaction."""
        config = parse_config("raft:\n  nodeID: n\n  dataDir: d\nlimits:\n  maxTransactionOperations: 5000\n", "f")
        nothing: Any = None
        forwarder = composition._OtherNodes(config, Clock(), nothing).make_forwarder(client_identity())
        limits = composition._rpc_settings(config).limits
        self.assertEqual((limits.max_array_length, forwarder._limits.max_array_length), (5000, 5000))
        self.assertEqual(limits.hello_seconds, config.limits.header_timeout_seconds)

    def test_totals(self) -> None:
        """What all connections may hold together, and how long answers may wait, is what is set for HTTP."""
        limits = "limits:\n  maxBufferedBodyBytes: 2000000\n  maxUnreadBytes: 3000000\n  idleTimeout: 7\n"
        config = parse_config(f"raft:\n  nodeID: n\n  dataDir: d\n{limits}", "f")
        rpc, web = composition._rpc_settings(config), composition._web_settings(config)
        found = (rpc.max_unfinished_bytes, rpc.max_unread_bytes, rpc.unread_seconds)
        self.assertEqual(found, (2_000_000, 3_000_000, 7))
        self.assertEqual(found, (web.max_buffered_body_bytes, web.max_unread_bytes, web.idle_timeout_seconds))
