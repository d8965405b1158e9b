"""Makes the Deferred and the blocking flavour of the client's methods out of those for asyncio.

The three differ in nothing but how one waits: ``async def`` and ``await`` against a Deferred against a plain call. So
one is written, a part of ``raftkv/client/aio``, and ``python -m tests.client.flavours`` writes the others. It
edits the source text at the places that the syntax tree names, and leaves the rest alone.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "raftkv" / "client"
MODULES = ("iterating", "holding", "keys", "ranges", "tenures", "calls")
FLAVOURS = ("deferred", "sync")

_NOTE = "# Made from raftkv/client/aio/{module}.py by python -m tests.client.flavours; change it there.\n\n"
_IMPORTS = {
    "deferred": "from twisted.internet.defer import Deferred\n",
    "sync": "from raftkv.client.sync.runtime import run\n",
}
_WORDS = {
    "deferred": {"raftkv.client.aio": "raftkv.client.deferred"},
    "sync": {
        "raftkv.client.aio": "raftkv.client.sync",
        "__aiter__": "__iter__",
        "__anext__": "__next__",
        "__aenter__": "__enter__",
        "__aexit__": "__exit__",
        "AsyncIterator": "Iterator",
        "an ``async with``": "a ``with``",
        "``async with``": "``with``",
        "``async for": "``for",
        "Awaitable[T]": "T",
        "When the leadership is lost meanwhile, the work is cancelled and begun anew once elected again.": (
            "Work whose leadership was lost meanwhile is begun anew once elected again; it should look at ``lost``\n"
            "        now and then, and return, for nobody can stop it."
        ),
    },
}

Edit = tuple[int, int, str]  # from offset, to offset, replacement


def make(source: str, module: str, flavour: str) -> str:
    """Return the text of a module in another flavour, before it is formatted."""
    text = _edited(source, sorted(_edits(source, flavour), reverse=True))
    for word, other in _WORDS[flavour].items():
        text = text.replace(word, other)
    head, marker, rest = text.partition("from __future__ import annotations\n")
    docstring = head[: head.index('"""', 3) + 3].split("\n\n")[0].removesuffix('"""')
    return f'{docstring}"""\n\n{_NOTE.format(module=module)}{marker}{_IMPORTS[flavour]}{rest}'


def _edits(source: str, flavour: str) -> Iterator[Edit]:
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))

    def at(line: int, column: int) -> int:
        return starts[line - 1] + column

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AsyncFunctionDef):
            begin = at(node.lineno, node.col_offset)
            yield begin, begin + len("async "), ""
            if flavour == "deferred" and node.returns is not None:
                end = at(node.returns.end_lineno or 0, node.returns.end_col_offset or 0)
                begin = at(node.returns.lineno, node.returns.col_offset)
                yield begin, begin, "Deferred["
                yield end, end, "]"
        elif isinstance(node, ast.Await):
            begin = at(node.lineno, node.col_offset)
            end = at(node.value.end_lineno or 0, node.value.end_col_offset or 0)
            opening = "Deferred.fromCoroutine(" if flavour == "deferred" else "run(self._engine, "
            yield begin, begin + len("await "), opening
            yield end, end, ")"


def _edited(source: str, edits: list[Edit]) -> str:
    text = source.encode()
    for begin, end, replacement in edits:
        text = text[:begin] + replacement.encode() + text[end:]
    return text.decode()


def formatted(text: str, path: Path) -> str:
    """Return a text as ruff would have it: imports in order, those unused gone."""
    for arguments in (["check", "--fix-only", "--quiet", "--select", "I,F401"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(path), "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=60)
        text = done.stdout
    return text


def flavoured() -> Iterator[tuple[Path, str]]:
    """Yield every module that is made, with its text."""
    for flavour in FLAVOURS:
        for module in MODULES:
            source = (CLIENT / "aio" / f"{module}.py").read_text(encoding="utf-8")
            path = CLIENT / flavour / f"{module}.py"
            yield path, formatted(make(source, module, flavour), path)


if __name__ == "__main__":
    for made, content in flavoured():
        made.write_text(content, encoding="utf-8")
