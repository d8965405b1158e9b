"""A YAML file on its way to values: it is composed, its keys are looked up, and each mistake gets its line.

Knows the table of settings; what they have to do with each other is left to :mod:`raftkv.config.checks`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import yaml

from raftkv.config.kinds import Wrong, describe
from raftkv.config.sections import SETTINGS
from raftkv.errors import ConfigurationError

_BY_KEY: Final = {setting.key: setting for setting in SETTINGS}
_SECTIONS: Final = frozenset(key.rpartition(".")[0] for key in _BY_KEY if "." in key)


class Document:
    """A composed file: it finds values by their keys, and remembers their nodes for later complaints."""

    def __init__(self, name: str, root: yaml.MappingNode) -> None:
        self._name = name
        self._root = root
        self._nodes: dict[str, yaml.Node] = {}
        self._lines: dict[str, int] = {}

    @classmethod
    def compose(cls, text: bytes | str, name: str) -> Document:
        """Take the text of a file apart.

        :param name: what to call the file in messages.
        :raises raftkv.errors.ConfigurationError: it is no YAML, or no mapping.
        """
        return cls(name, _compose(text, name))

    def values(self) -> dict[str, Any]:
        """Return every value of the file by its key, each as its setting's kind reads it."""
        found: dict[str, Any] = {}
        for key, node in self._walk(self._root, ""):
            try:
                found[key] = _BY_KEY[key].kind.read(node)
            except Wrong as wrong:
                self._fail(f"{key}.{wrong.below}" if wrong.below else key, wrong.node, wrong.expected)
        for setting in SETTINGS:
            if setting.required and setting.key not in found:
                self.complain(setting.key, setting.kind.expected)
        return found

    def has(self, key: str) -> bool:
        """Tell whether the file sets this key."""
        return key in self._nodes

    def complain(self, key: str, expected: str) -> NoReturn:
        """Raise for the value of a setting that was read, or is missing."""
        node = self._nodes.get(key)
        section = self._nodes.get(key.rpartition(".")[0], self._root)
        self._raise(key, (node or section).start_mark.line, describe(node), expected)

    def _walk(self, mapping: yaml.MappingNode, section: str) -> Iterator[tuple[str, yaml.Node]]:
        # Keys are compared in full, so "raft.nodeID: x" at the top is the same setting as the one inside "raft:".
        for name, value in mapping.value:
            key = f"{section}{name.value}" if isinstance(name, yaml.ScalarNode) else describe(name)
            line = name.start_mark.line
            first = self._lines.setdefault(key, line)
            if key in self._nodes:
                self._raise(key, line, "it again", f"it once; it first stands in line {first + 1}")
            self._nodes[key] = value
            if key in _SECTIONS:
                if not isinstance(value, yaml.MappingNode):
                    self._fail(key, value, "a mapping of settings")
                yield from self._walk(value, f"{key}.")
            elif key in _BY_KEY:
                yield key, value
            else:
                self._raise(key, line, "an unknown key", _nearest(key))

    def _fail(self, key: str, node: yaml.Node, expected: str) -> NoReturn:
        self._raise(key, node.start_mark.line, describe(node), expected)

    def _raise(self, key: str, line: int, found: str, expected: str) -> NoReturn:
        shown = key if key.isprintable() and len(key) <= 80 else repr(key[:80])
        raise ConfigurationError(f"{self._name}, line {line + 1}: {shown}: found {found}, expected {expected}")


def _compose(text: bytes | str, name: str) -> yaml.MappingNode:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}, line {mark.line + 1}" if mark else name
        problem = " ".join(part for part in (error.problem, error.context) if part)
        raise ConfigurationError(f"{where}: found {problem or 'a mistake'}, expected valid YAML") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigurationError(f"{name}: found {reason}, expected valid YAML in UTF-8") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{name}, line 1: found {describe(root)}, expected a mapping of settings")
    return root


def _nearest(key: str) -> str:
    """Complete "expected …" for an unknown key."""
    known = {name.lower(): name for name in (*_BY_KEY, *_SECTIONS)}
    leaves = {name.rpartition(".")[2].lower(): name for name in _BY_KEY}
    plain = key.lower().replace("_", "").replace("-", "")
    # The whole key first; then its last part alone, for a setting that stands in the wrong section.
    for text, table in ((plain, known), (plain.rpartition(".")[2], leaves)):
        close = difflib.get_close_matches(text, table, n=1, cutoff=0.6)
        if close:
            return f"a known one; did you mean {table[close[0]]}?"
    return f"one of {', '.join(sorted({name.partition('.')[0] for name in _BY_KEY}))}"
