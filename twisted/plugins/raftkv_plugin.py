"""The ``raftkv`` subcommand of twistd: ``twistd -n raftkv --config node.yaml``."""

from twisted.application.service import ServiceMaker

raftkv = ServiceMaker("raftkv", "raftkv.tap", "A node of a replicated, linearizable key-value store.", "raftkv")
