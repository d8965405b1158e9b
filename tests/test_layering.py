"""Who may import whom: read from the import statements themselves, so that no arrow ever points upward."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

import raftkv

PACKAGE = Path(raftkv.__file__).parent


def modules(folder: Path) -> Iterator[Path]:
    """Yield the source files below a folder."""
    return iter(sorted(folder.rglob("*.py")))


def room(path: Path) -> str:
    """Return the part of the package that a file belongs to: a folder's name, or the module's own."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def is_type_checking(node: ast.If) -> bool:
    """Tell whether a branch is only for type checkers, and so imports nothing when it runs."""
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(node: ast.AST) -> Iterator[str]:
    """Yield every module that a piece of source imports when it runs, wherever the statement stands."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            if child.level:
                raise AssertionError(f"a relative import in line {child.lineno}; imports here are absolute")
            module = child.module or ""
            # "from raftkv import errors" imports a module, "from raftkv.errors import NotLeader" a name.
            yield from ([f"{module}.{alias.name}" for alias in child.names] if module == "raftkv" else [module])
        elif isinstance(child, ast.If) and is_type_checking(child):
            for other in child.orelse:
                yield from imports(other)
        else:
            yield from imports(child)


def imported_by(path: Path) -> set[str]:
    """Return every module that a file imports."""
    return set(imports(ast.parse(path.read_text(), str(path))))


class LayeringTests(SynchronousTestCase):
    """The table of the architecture page, held."""

    # Which rooms of raftkv a room may use; itself always.
    ROOMS: ClassVar[dict[str, set[str]]] = {
        "__init__": set(),
        "errors": set(),
        "sending": set(),
        "config": {"errors"},
        "raft": {"errors"},
        "kvstore": {"errors"},
        "interfaces": {"errors", "raft"},
        "persistence": {"errors", "interfaces", "raft"},
        "snapshot": {"errors", "interfaces", "raft", "persistence"},
        "reading": {"errors", "interfaces", "kvstore"},
        "protocols": {"errors", "interfaces", "raft", "kvstore", "reading", "sending"},
        "membership": {"errors", "interfaces", "raft", "protocols", "config"},
        "server": {
            *("errors", "interfaces", "config", "raft", "kvstore", "persistence", "snapshot", "membership"),
            *("protocols", "watches", "__version__"),
        },
        "watches": {"errors"},
        "web": {"errors", "interfaces", "kvstore", "reading", "sending", "watches", "__version__"},
        "client": {"errors", "protocols", "kvstore", "reading", "__version__"},
        "bench": {"errors", "protocols", "kvstore", "client"},
        "cli": {"errors", "bench", "client", "config", "persistence", "server", "__version__"},
        "daemon": {"errors", "config"},
    }

    # What a pure room may import from outside; nothing else, not even of the standard library's dangerous part.
    PURE: ClassVar[dict[str, set[str]]] = {"raft": set(), "kvstore": {"msgpack", "google_crc32c"}}
    IMPURE: ClassVar[set[str]] = {"time", "random", "os", "socket", "threading", "asyncio", "datetime", "secrets"}

    # Ends of the arrows: they may use every room, and nobody uses them.
    TOP: ClassVar[set[str]] = {"tap", "composition", "testing"}

    def test_arrows_point_downward(self) -> None:
        """Each part of the package imports only the parts below it."""
        for path in modules(PACKAGE):
            here = room(path)
            if here in self.TOP:
                continue
            self.assertIn(here, self.ROOMS, f"{path}: a room that the table does not know")
            used = {name.split(".")[1] for name in imported_by(path) if name.startswith("raftkv.")}
            self.assertEqual(used - self.ROOMS[here] - {here}, set(), f"{path.relative_to(PACKAGE)} looks upward")

    def test_commands_are_vocabulary(self) -> None:
        """Those who make commands and read answers know their shapes, and nothing of the state machine."""
        vocabulary = {f"raftkv.kvstore.{name}" for name in ("commands", "checking", "refusals", "views")}
        for name in ("reading", "protocols", "client", "web", "bench"):
            for path in modules(PACKAGE / name):
                for node in ast.walk(ast.parse(path.read_text(), str(path))):
                    if isinstance(node, ast.ImportFrom) and node.module == "raftkv.kvstore":
                        self.assertEqual([alias.name for alias in node.names], ["commands"], str(path))
                # What a type checker alone imports may say more: a state that is handed in has a type.
                used = {module for module in imported_by(path) if module.startswith("raftkv.kvstore.")}
                self.assertEqual(used - vocabulary, set(), str(path))

    def test_generator_is_lean(self) -> None:
        """What asks over raw sockets needs no library, and no client."""
        for name in ("closed", "evenpace", "link", "conversations", "http", "overseer", "figures", "specification"):
            path = PACKAGE / "bench" / f"{name}.py"
            used = imported_by(path)
            foreign = {module.partition(".")[0] for module in used} - set(sys.stdlib_module_names)
            self.assertEqual(foreign - {"raftkv"}, set(), str(path))
            self.assertFalse([module for module in used if module.startswith("raftkv.client")], str(path))

    def test_product_knows_no_comparison(self) -> None:
        """Nothing that is shipped imports the comparison with other products, which imports the generator from it."""
        for path in modules(PACKAGE):
            self.assertFalse([name for name in imported_by(path) if name.startswith("benchmarks")], str(path))

    def test_no_cycles(self) -> None:
        """The table itself has no circle."""
        remaining = {name: set(below) & set(self.ROOMS) for name, below in self.ROOMS.items()}
        while remaining:
            lowest = {name for name, below in remaining.items() if not below & set(remaining)}
            self.assertTrue(lowest, f"a circle among {sorted(remaining)}")
            for name in lowest:
                del remaining[name]

    def test_pure_rooms(self) -> None:
        """The core and the state machine import neither Twisted nor clocks, chance, files or sockets (B40)."""
        for name, allowed in self.PURE.items():
            for path in modules(PACKAGE / name):
                outside = {module.partition(".")[0] for module in imported_by(path)} - {"raftkv"}
                foreign = {module for module in outside if module not in sys.stdlib_module_names}
                self.assertEqual(foreign - allowed, set(), f"{path.relative_to(PACKAGE)} is not pure")
                self.assertEqual(outside & self.IMPURE, set(), f"{path.relative_to(PACKAGE)} is not pure")

    def test_only_tap_meets_the_reactor(self) -> None:
        """Nobody imports the global reactor while a module is loaded, which would install one."""
        for path in modules(PACKAGE):
            for node in ast.parse(path.read_text(), str(path)).body:
                if isinstance(node, ast.ImportFrom) and node.module == "twisted.internet":
                    names = {alias.name for alias in node.names}
                    self.assertNotIn("reactor", names, f"{path.relative_to(PACKAGE)} imports the reactor at the top")

    def test_nobody_imports_the_top(self) -> None:
        """No part imports the composition of all parts, or the fakes."""
        for path in modules(PACKAGE):
            if room(path) not in self.TOP:
                used = {name.split(".")[1] for name in imported_by(path) if name.startswith("raftkv.")}
                self.assertEqual(used & self.TOP, set(), str(path))

    def test_nothing_pickles(self) -> None:
        """Nothing that could run code it received is imported anywhere (B72)."""
        for path in modules(PACKAGE):
            dangerous = {"pickle", "cPickle", "marshal", "shelve", "dill", "twisted.persisted", "twisted.spread"}
            used = {name for name in imported_by(path) if any(f"{name}.".startswith(f"{d}.") for d in dangerous)}
            self.assertEqual(used, set(), str(path))

    def test_twisted_has_no_init_of_ours(self) -> None:
        """The folder of the plugin holds no __init__.py, which would hide Twisted itself."""
        root = PACKAGE.parent / "twisted"
        if not root.is_dir():
            self.skipTest("installed without its source")
        self.assertEqual(list(root.rglob("__init__.py")), [])
