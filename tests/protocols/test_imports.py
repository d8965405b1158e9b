"""What the protocols are made of."""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import raftkv.protocols

_FORBIDDEN = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "time", "socket", "os"}


class ImportTests(SynchronousTestCase):
    """Nothing that a stranger sends is ever executed."""

    def test_nothing_pickles(self) -> None:
        """B72: no module of the protocols imports anything that pickles, nor evaluates code, time or sockets."""
        (folder,) = raftkv.protocols.__path__
        modules = sorted(Path(folder).glob("*.py"))
        self.assertGreater(len(modules), 10)
        for module in modules:
            for node in ast.walk(ast.parse(module.read_text())):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    self.assertNotIn(node.func.id, {"eval", "exec", "__import__", "compile"}, module.name)
                self.assertFalse(_FORBIDDEN & {name.split(".")[0] for name in names}, module.name)
