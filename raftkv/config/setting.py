"""One setting: where it stands in the file, what it takes, what it means, and what it is where nobody sets it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from raftkv.config.kinds import Kind
from raftkv.config.model import Limits, NodeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One line of the reference page.

    :ivar key: where it stands in the file, sections joined by dots.
    :ivar field: the attribute of :class:`NodeConfig`, or of :class:`Limits` for a key below ``limits``.
    :ivar kind: what it takes.
    :ivar unit: unit of the number, or empty.
    :ivar derived: how the default follows from others, where it is no constant; else empty.
    :ivar doc: what it means, for users; Markdown.
    """

    key: str
    field: str
    kind: Kind
    doc: str
    unit: str = ""
    derived: str = ""

    @property
    def default(self) -> object:
        """The default, or :data:`dataclasses.MISSING` where the setting is required."""
        owner = Limits if self.key.startswith("limits.") else NodeConfig
        found = next(entry for entry in dataclasses.fields(owner) if entry.name == self.field)
        if found.default is dataclasses.MISSING and found.default_factory is not dataclasses.MISSING:
            return found.default_factory()
        return found.default

    @property
    def required(self) -> bool:
        """Whether the file must have it."""
        return self.default is dataclasses.MISSING
