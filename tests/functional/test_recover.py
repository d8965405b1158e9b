"""The majority is gone for good: the survivor becomes a cluster of one, and the old members stay out."""

from __future__ import annotations

import json
import subprocess

from tests.functional.load import Load
from tests.functional.processes import RAFTKV, environment, sleep
from tests.functional.test_cluster import ClusterTestCase


class RecoverTests(ClusterTestCase):
    """``raftkv recover --force-new-cluster``."""

    def recover(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run the command on a node's directory."""
        arguments = [f"data/{name}", "--force-new-cluster", "--node-id", name, "--yes", "--json"]
        return subprocess.run(
            [*RAFTKV, "recover", *arguments],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    async def test_two_of_three_are_gone(self) -> None:
        """The third serves all acknowledged writes and takes new ones; an old node is refused by it."""
        nodes = self.make_cluster()
        load = Load(nodes)
        await sleep(2)
        await load.stop()
        self.assert_same_state(nodes)
        survivor, *lost = nodes
        for node in lost:
            node.kill()
        refused = self.recover(survivor.name)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("is in use by", refused.stderr)
        self.assertEqual(len(refused.stderr.splitlines()), 1, refused.stderr)
        survivor.kill()
        done = self.recover(survivor.name)
        self.assertEqual(done.returncode, 0, done.stderr)
        identity = json.loads(done.stdout)
        survivor.start()
        self.wait_ready(survivor)
        await self.verify(survivor, load)
        self.assertEqual(survivor.status()["cluster_id"], identity["cluster_id"])
        self.assertEqual(survivor.set("after", "1").status, 200)
        term = survivor.status()["term"]
        old = lost[0]
        old.start()
        self.wait_until(lambda: identity["cluster_id"] in old.log() + survivor.log(), "the old node to be refused")
        await sleep(2)
        self.assertIsNone(old.status()["leader"])
        status = survivor.status()
        self.assertEqual((status["term"], status["role"]), (term, "leader"))
        self.assertEqual([m["id"] for m in survivor.request("GET", "/v1/cluster").json["members"]], [survivor.name])
