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
