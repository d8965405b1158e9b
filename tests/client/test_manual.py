"""The manual's page on the client says what is true: its code is run, and what it prints is compared."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import raftkv.client
import raftkv.client.aio
import raftkv.client.sync
from raftkv.client import NativeClient
from tests.client.driving import DeferredDriver
from tests.client.fakecluster import FakeCluster
from tests.client.onenode import OneNode
from tests.client.rpcnet import RpcNetwork

PAGE = Path(__file__).parents[2] / "docs" / "python-client.md"


class ManualTests(SynchronousTestCase):
    """The page's Python blocks, run one after the other, against a cluster that speaks the contract."""

    def setUp(self) -> None:
        if not PAGE.exists():
            raise SkipTest(f"there is no {PAGE} beside an installed package")
        self.cluster = FakeCluster()
        self.addCleanup(self.cluster.close)
        self.driver = DeferredDriver()
        self.addCleanup(self.driver.stop)
        self.patch(raftkv.client, "KVClient", lambda *_: self.driver.make(*self.cluster.addresses))
        for flavour in (raftkv.client.aio, raftkv.client.sync):
            made: Any = flavour.KVClient
            self.patch(flavour, "KVClient", lambda *_, made=made: made(*self.cluster.addresses))
        self.clock = Clock()
        network = RpcNetwork(self.clock)
        node = OneNode()
        node.leads = True
        network.nodes = {"localhost:8081": node}
        self.patch(
            raftkv.client,
            "NativeClient",
            lambda *addresses: NativeClient(*addresses, reactor=self.clock, connect=network.endpoint),
        )
        self.printed: list[str] = []
        self.scope: dict[str, Any] = {"print": lambda *values: self.printed.append(" ".join(map(str, values)))}

    def test_page(self) -> None:
        """Every block runs, and prints what the page shows."""
        shown: list[str] = []
        for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            # Behind the print, or below a loop on lines of their own.
            shown.extend(re.findall(r"(?:print\(.*\)  |^)# (.*)$", block, re.MULTILINE))
            code = compile(block, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            self.run_code(code, on_clock="native" in block)
            if "react(" in block:
                self.driver.run(lambda: self.scope.pop("main")(self.driver.reactor))
            self.assertEqual(self.printed, shown)
        self.assertGreater(len(shown), 30)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def run_code(self, code: Any, *, on_clock: bool) -> None:
        result = eval(code, self.scope)
        if not inspect.iscoroutine(result):
            return
        if on_clock:
            running = Deferred.fromCoroutine(result)
            self.clock.pump([0] * 50)
            self.successResultOf(running)
        else:
            self.driver.run(lambda: result)
