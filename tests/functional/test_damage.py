"""A byte of a log changes while its node is down: the node fetches it from the others, or says where it is."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.functional.processes import FunctionalTestCase, Node


class DamageTests(FunctionalTestCase):
    """Real processes on real files."""

    def damage(self, node: Node, value: bytes) -> tuple[Path, int]:
        """Flip a bit in the middle of a value in the log of a node that is down; return where."""
        for path in sorted((node.data_dir / "log").glob("*.segment")):
            image = bytearray(path.read_bytes())
            offset = image.find(value)
            if offset >= 0:
                offset += len(value) // 2
                image[offset] ^= 0x10
                path.write_bytes(image)
                return path, offset
        raise AssertionError(f"{value!r} is not in the log of {node.name}")

    def test_repaired_from_the_others(self) -> None:
        """B41, B42: a node whose log was changed in the middle serves again, with everything, and its log is whole."""
        nodes = self.make_cluster()
        for number in range(30):
            self.assertEqual(nodes[number % 3].set(f"key-{number}", f"value-{number:04}").status, 200)
        damaged = nodes[1]
        self.assertEqual(damaged.stop(), 0)
        self.assertEqual(nodes[0].set("meanwhile", "1").status, 200)
        path, _ = self.damage(damaged, b"value-0007")
        damaged.start()
        self.wait_ready(damaged)
        self.assertIn("does not check out", damaged.log())
        self.assertIn("the log is whole again", damaged.log())
        self.assertFalse(path.exists())
        self.assertEqual(damaged.get("key-7", "stale"), "value-0007")
        self.assertEqual(damaged.get("meanwhile"), "1")
        self.assertEqual(damaged.stop(), 0)
        damaged.start()
        self.wait_ready(damaged)
        self.assertEqual(damaged.log().count("is whole again"), 1)

    def test_all_damaged(self) -> None:
        """B41: three nodes whose logs were changed in different places, all at once, repair each other without any
        leader."""
        nodes = self.make_cluster()
        for number in range(30):
            self.assertEqual(nodes[number % 3].set(f"key-{number}", f"value-{number:04}").status, 200)
        for node in nodes:
            node.stop()
        for number, node in enumerate(nodes, 5):
            self.damage(node, b"value-%04d" % number)
        for node in nodes:
            node.start()
        self.wait_ready(*nodes)
        for node in nodes:
            for number in (5, 6, 7):
                self.assertEqual(node.get(f"key-{number}"), f"value-{number:04}")

    def test_damaged_and_wiped(self) -> None:
        """B41, B42: a node with a damaged log and one with an empty disk wait for the third; it supplies the one, and
        with that one takes in the other."""
        intact, damaged, wiped = nodes = self.make_cluster()
        for number in range(10):
            self.assertEqual(nodes[number % 3].set(f"key-{number}", f"value-{number:04}").status, 200)
        for node in nodes:
            node.stop()
        self.damage(damaged, b"value-0005")
        shutil.rmtree(wiped.data_dir)
        damaged.start()
        wiped.start()
        told = f"127.0.0.1:{damaged.rpc_port}: "
        self.wait_until(lambda: f"tries again: {told}" in wiped.log(), "the empty node to be told to ask again")
        self.assertEqual([damaged.status()["role"], wiped.status()["role"]], ["repairing", "joining"])
        self.assertIn("its log is damaged", damaged.request("GET", "/health/ready").json["error"]["message"])
        self.assertEqual(damaged.set("key-5", "x").status, 503)
        intact.start()
        self.wait_ready(*nodes)
        for node in nodes:
            self.assertEqual(node.get("key-5", "stale"), "value-0005")

    def test_alone(self) -> None:
        """B41, B42: a node alone refuses to start, and says which file is damaged, and where."""
        node = self.make_node()
        node.start()
        self.wait_ready(node)
        for number in range(5):
            self.assertEqual(node.set(f"key-{number}", f"value-{number:04}").status, 200)
        self.assertEqual(node.stop(), 0)
        path, _ = self.damage(node, b"value-0002")
        node.start()
        self.assertNotEqual(node.wait(), 0)
        last_line = node.log().splitlines()[-1]
        self.assertIn(str(path), last_line)
        self.assertIn("at offset", last_line)
