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
from raftkv.client import KVClient, NativeClient
from tests.client.onenode import OneNode
from tests.client.rpcnet import RpcNetwork

PAGE = Path(__file__).parents[2] / "docs" / "python-client.md"


class ManualTests(SynchronousTestCase):
    """The page's Python blocks, run one after the other."""

    def test_page(self) -> None:
        """Every block runs, and prints what the page shows."""
        if not PAGE.exists():
            raise SkipTest(f"there is no {PAGE} beside an installed package")
        clock, node = Clock(), OneNode()
        self.patch(
            raftkv.client,
            "KVClient",
            lambda *addresses: KVClient(*addresses, reactor=clock, treq_client=node.treq(clock)),
        )
        network = RpcNetwork(clock)
        network.nodes = {"localhost:8081": node}
        node.leads = True
        self.patch(
            raftkv.client,
            "NativeClient",
            lambda *addresses: NativeClient(*addresses, reactor=clock, connect=network.endpoint),
        )
        printed: list[str] = []
        scope: dict[str, Any] = {"print": lambda *values: printed.append(" ".join(map(str, values)))}
        shown: list[str] = []
        for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            shown.extend(re.findall(r"print\(.*\)  # (.*)$", block, re.MULTILINE))
            code = compile(block, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            self.run_code(code, scope, clock)
            if "main" in scope:
                self.successResultOf(Deferred.fromCoroutine(scope.pop("main")(clock)))
        self.assertEqual(printed, shown)
        self.assertGreater(len(shown), 10)
        self.assertEqual(clock.getDelayedCalls(), [])

    def run_code(self, code: Any, scope: dict[str, Any], clock: Clock) -> None:
        result = eval(code, scope)
        if inspect.iscoroutine(result):
            running = Deferred.fromCoroutine(result)
            clock.pump([0] * 50)
            self.successResultOf(running)
