"""The flavours of the client are one: what is made is as it would be made now, and what has no Twisted needs none."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

import raftkv
from tests.client.flavours import CLIENT, flavoured

# The blocking client first: a thread of its own must not need a loop either.
WITHOUT_TWISTED = """
import sys, asyncio
import raftkv.client.sync, raftkv.client.aio
from raftkv.client import RequestTimeout

nobody = "http://127.0.0.1:1"
with raftkv.client.sync.KVClient(nobody, timeout=0.05) as client:
    try:
        client.set("k", "v")
    except RequestTimeout as error:
        print(error.outcome)

async def main():
    async with raftkv.client.aio.KVClient(nobody, timeout=0.05) as client:
        try:
            await client.set("k", "v")
        except RequestTimeout as error:
            print(error.outcome)

asyncio.run(main())
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("twisted", "treq", "klein", "zope")))
"""


class FlavourTests(SynchronousTestCase):
    """What is held of the source of the flavours."""

    def test_made(self) -> None:
        """The methods of the Deferred and of the blocking flavour are made from those for asyncio, and nothing else."""
        if not (CLIENT.parents[1] / "setup.cfg").exists():
            self.skipTest("installed without its source")
        for path, text in flavoured():
            current = path.read_text(encoding="utf-8")
            self.assertEqual(current, text, f"{path.name}: run python -m tests.client.flavours")

    def test_no_twisted(self) -> None:
        """The asyncio and the blocking client work in a program that never imports Twisted."""
        command = [sys.executable, "-c", WITHOUT_TWISTED]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=CLIENT.parents[1])
        self.assertEqual((done.stdout, done.stderr), ("not_applied\nnot_applied\n[]\n", ""))

    def test_lazy(self) -> None:
        """The clients for Twisted are attributes of the package like all others; nothing else appears by itself."""
        from raftkv.client.deferred import KVClient
        from raftkv.client.native import NativeClient

        self.assertIs(raftkv.client.KVClient, KVClient)
        self.assertIs(raftkv.client.NativeClient, NativeClient)
        with self.assertRaises(AttributeError):
            raftkv.client.SomethingElse  # noqa: B018
