"""The kinds of settings: from one node of a YAML document to a value, or to what was found and what was expected.

It knows YAML's tags and the shape of a value. Which settings there are, what they default to and how they depend on
each other is known to the other modules.

Values are read from the composed node, not from PyYAML's constructed object: a node still knows its line and how it
was written, so that ``nodeID: 1`` or ``snapshotInterval: "30"`` is refused rather than turned into something near it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

import yaml

from raftkv.config.address import Address

_TAG: Final = "tag:yaml.org,2002:"
_NODE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*)")


class Wrong(Exception):
    """A value is not what its setting takes.

    :ivar node: the node to blame, for its line.
    :ivar expected: what would have been right.
    :ivar below: the key below that of the setting, for an entry of a mapping or a list; else empty.
    """

    def __init__(self, node: yaml.Node, expected: str, below: str = "") -> None:
        super().__init__(node, expected, below)
        self.node = node
        self.expected = expected
        self.below = below


def describe(node: yaml.Node | None) -> str:
    """Say what stands in the file, short and on one line."""
    if node is None:
        return "nothing"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    text: str = node.value
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    names = {"int": "a number", "float": "a number", "bool": "a boolean", "null": "nothing", "str": "text"}
    name = names.get(node.tag.removeprefix(_TAG), node.tag)
    return name if name == "nothing" else f"{name} {shown}" if name == "text" else f"{name} {shown[1:-1]}"


def _is(node: yaml.Node, *types: str) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_TAG) in types


class Kind(Protocol):
    """What a setting takes."""

    @property
    def expected(self) -> str:
        """A phrase that completes "expected …", also used in the reference page."""

    def read(self, node: yaml.Node) -> object:
        """Return the value that a node stands for.

        :raises Wrong: it stands for none.
        """


@dataclass(frozen=True, slots=True)
class Text:
    """Any text but the empty one, without control characters."""

    expected: str

    def read(self, node: yaml.Node) -> str:
        """Return the text."""
        if not _is(node, "str") or not node.value or not node.value.isprintable():
            quote = "; quote it" if _is(node, "int", "float", "bool") else ""
            raise Wrong(node, self.expected + quote)
        return str(node.value)


@dataclass(frozen=True, slots=True)
class NodeId:
    """The name of a member: it stands in headers, paths and log lines, so it is kept plain."""

    expected: str = "a name of 1 to 128 letters, digits, '.', '_' and '-', not beginning with '.' or '-'"

    def read(self, node: yaml.Node) -> str:
        """Return the name."""
        text = Text(self.expected).read(node)
        if not _NODE_ID.fullmatch(text):
            raise Wrong(node, self.expected)
        return text


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        """The words."""
        return f"one of {', '.join(self.words)}"

    def read(self, node: yaml.Node) -> str:
        """Return the word."""
        if not _is(node, "str") or node.value not in self.words:
            raise Wrong(node, self.expected)
        return str(node.value)


@dataclass(frozen=True, slots=True)
class Boolean:
    """``true`` or ``false``."""

    expected: str = "true or false"

    def read(self, node: yaml.Node) -> bool:
        """Return the truth."""
        if not _is(node, "bool"):
            raise Wrong(node, self.expected)
        return str(node.value).lower() in ("true", "yes", "on")


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within limits, written in decimal."""

    low: int
    high: int

    @property
    def expected(self) -> str:
        """The limits."""
        return f"a whole number from {self.low} to {self.high}"

    def read(self, node: yaml.Node) -> int:
        """Return the number."""
        # YAML 1.1 takes 010 for eight and 1:30 for ninety; neither is what anybody means in this file.
        if not _is(node, "int") or not _WHOLE.fullmatch(node.value):
            raise Wrong(node, self.expected)
        digits = node.value.replace("_", "")
        # Python refuses to convert thousands of digits; a number that long is out of range in any case.
        if len(digits) > 20 or not self.low <= int(digits) <= self.high:
            raise Wrong(node, self.expected)
        return int(digits)


@dataclass(frozen=True, slots=True)
class Seconds:
    """A duration within limits, whole or not."""

    low: float
    high: float

    @property
    def expected(self) -> str:
        """The limits."""
        return f"a number of seconds from {self.low:g} to {self.high:.10g}"

    def read(self, node: yaml.Node) -> float:
        """Return the seconds."""
        value = _real(node)
        if not self.low <= value <= self.high:  # false for NaN too
            raise Wrong(node, self.expected)
        return value


@dataclass(frozen=True, slots=True)
class Share:
    """A share of one within limits."""

    low: float
    high: float

    @property
    def expected(self) -> str:
        """The limits."""
        return f"a number from {self.low:g} to {self.high:g}"

    def read(self, node: yaml.Node) -> float:
        """Return the share."""
        value = _real(node)
        if not self.low <= value <= self.high:
            raise Wrong(node, self.expected)
        return value


def _real(node: yaml.Node) -> float:
    try:
        return float(node.value.replace("_", "")) if _is(node, "int", "float") else math.nan
    except ValueError:  # .inf, .nan, hexadecimal, sexagesimal
        return math.nan


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen."""

    expected: str = "host:port, or :port for every interface, with a port from 1 to 65535"

    def read(self, node: yaml.Node) -> Address:
        """Return the address."""
        try:
            return Address.parse(Text(self.expected).read(node))
        except ValueError:
            raise Wrong(node, self.expected) from None


@dataclass(frozen=True, slots=True)
class ReachableAddress:
    """Where somebody else can connect to, as text."""

    expected: str = "host:port that others can connect to, with a port from 1 to 65535"

    def read(self, node: yaml.Node) -> str:
        """Return the address in its canonical spelling."""
        try:
            address = Address.parse(Text(self.expected).read(node))
        except ValueError:
            raise Wrong(node, self.expected) from None
        if address.is_wildcard:
            raise Wrong(node, self.expected)
        return str(address)


@dataclass(frozen=True, slots=True)
class Peers:
    """The initial members: a mapping from node id to address."""

    expected: str = "a mapping from node id to host:port"

    def read(self, node: yaml.Node) -> Mapping[str, str]:
        """Return the mapping, sorted by id."""
        if not isinstance(node, yaml.MappingNode) or not node.value:
            raise Wrong(node, self.expected)
        peers: dict[str, str] = {}
        for key, value in node.value:
            name = NodeId().read(key)
            if name in peers:
                raise Wrong(key, "each node id once", name)
            try:
                address = ReachableAddress().read(value)
            except Wrong as wrong:
                raise Wrong(wrong.node, wrong.expected, name) from None
            if address in peers.values():
                raise Wrong(value, "an address of its own for each node", name)
            peers[name] = address
        return MappingProxyType(dict(sorted(peers.items())))


@dataclass(frozen=True, slots=True)
class Addresses:
    """A list of addresses to connect to, at least one."""

    expected: str = "a list of host:port"

    def read(self, node: yaml.Node) -> tuple[str, ...]:
        """Return the addresses in the order given."""
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise Wrong(node, self.expected)
        addresses = []
        for position, item in enumerate(node.value):
            try:
                addresses.append(ReachableAddress().read(item))
            except Wrong as wrong:
                raise Wrong(wrong.node, wrong.expected, str(position)) from None
        return tuple(addresses)
