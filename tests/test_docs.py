"""The manual and the examples, against what they are about."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from raftkv.config import SETTINGS, Limits, load_config

ROOT = Path(__file__).resolve().parent.parent


def tables() -> ModuleType:
    """Return ``docs/tables.py``, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("raftkv_docs_tables", ROOT / "docs" / "tables.py")
    if spec is None or spec.loader is None:
        raise AssertionError("docs/tables.py is gone")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ManualTests(SynchronousTestCase):
    """Pages that follow from the source."""

    def test_configuration_page(self) -> None:
        """The reference page holds every setting as the source has it (else: python docs/tables.py)."""
        page = (ROOT / "docs" / "configuration.md").read_text()
        self.assertEqual(page, tables().with_configuration(page))
        for setting in SETTINGS:
            self.assertIn(f"| `{setting.key}` |", page)

    def test_every_limit_is_kept(self) -> None:
        """Each setting of a limit is read by some part of the package, so none is documented and does nothing."""
        source = "".join(
            path.read_text() for path in (ROOT / "raftkv").rglob("*.py") if "config" not in path.relative_to(ROOT).parts
        )
        for entry in dataclasses.fields(Limits):
            self.assertRegex(source, rf"limits\.{entry.name}\b")

    def test_every_bug_has_a_line(self) -> None:
        """The page of bugs has each number once, in order."""
        numbers = re.findall(r"^\| B([0-9]+) \|", (ROOT / "docs" / "bugs.md").read_text(), re.MULTILINE)
        self.assertEqual(numbers, [str(number) for number in range(1, 73)])

    def test_proofs_exist(self) -> None:
        """Each test file that the page names is there and names the number: the page never claims too much. What it
        does not know yet is filled in by make docs."""
        known = tables().proofs()
        for number, proof in re.findall(
            r"^\| B([0-9]+) \| .* \| (.*) \|$", (ROOT / "docs" / "bugs.md").read_text(), re.M
        ):
            named = {f"tests/{name}" for name in re.findall(r"`([^`]+)`", proof)}
            self.assertEqual(named - set(known.get(int(number), [])), set(), f"B{number} is not named there")


class ExampleTests(SynchronousTestCase):
    """The files in ``conf``."""

    def test_cluster(self) -> None:
        """The three nodes agree on who they are, and share neither a port nor a directory."""
        configs = [load_config(str(ROOT / "conf" / f"node{number}.yaml")) for number in (1, 2, 3)]
        self.assertEqual(len({tuple(config.peers.items()) for config in configs}), 1)
        for config in configs:
            self.assertEqual(config.peers[config.node_id], config.raft_advertised_addr)
        listeners = [
            address for config in configs for address in (config.rpc_addr, config.http_addr, config.raft_bind_addr)
        ]
        self.assertEqual(len(set(listeners)), 9)
        self.assertTrue(all(address.is_loopback for address in listeners))
        self.assertEqual(len({config.data_dir for config in configs}), 3)

    def test_single(self) -> None:
        """The single node is a cluster of one."""
        self.assertTrue(load_config(str(ROOT / "conf" / "single.yaml")).is_alone)
