"""One deliberate violation: what it changes in the source, which rule that breaks, and where tests should notice.

Knows text and files; not Raft, and not how tests are run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


class StaleMutant(Exception):
    """The source has moved on: what a mutant would replace is not there any more, or not only once."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A change to one file.

    :ivar file: path below the root of the tree.
    :ivar old: text that occurs exactly once in that file.
    :ivar new: what takes its place.
    """

    file: str
    old: str
    new: str

    def applied_to(self, source: str) -> str:
        """Return the changed source.

        :raises StaleMutant: the old text does not occur exactly once.
        """
        found = source.count(self.old)
        if found != 1:
            raise StaleMutant(f"in {self.file} this occurs {found} times instead of once:\n{self.old}")
        return source.replace(self.old, self.new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A rule that is broken on purpose.

    :ivar name: short, unique.
    :ivar rule: the rule that holds without it, as a sentence.
    :ivar reference: where the rule comes from: a section of the Raft paper or thesis, a B number, or our own design.
    :ivar edits: made together; more than one where a second line of defence would hide that the first is gone.
    :ivar hints: test modules that should notice, tried first.
    :ivar survives_because: why no test can notice; empty for all but those that were found to change nothing that
        anybody is promised.
    """

    name: str
    rule: str
    reference: str
    edits: tuple[Edit, ...]
    hints: tuple[str, ...]
    survives_because: str = ""

    @property
    def fingerprint(self) -> str:
        """A short text that differs between any two changes."""
        parts = [part for edit in self.edits for part in (edit.file, edit.old, edit.new)]
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it changes, each once."""
        return tuple(dict.fromkeys(edit.file for edit in self.edits))

    @property
    def part(self) -> str:
        """The part of the package that it changes, such as ``raft``."""
        return self.edits[0].file.split("/")[1]

    def mutated(self, root: Path) -> dict[str, str]:
        """Return the changed source of each file.

        :param root: of a tree without mutants.
        :raises StaleMutant: an old text does not occur exactly once.
        """
        sources = {file: (root / file).read_text() for file in self.files}
        for edit in self.edits:
            try:
                sources[edit.file] = edit.applied_to(sources[edit.file])
            except StaleMutant as stale:
                raise StaleMutant(f"{self.name}: {stale}") from None
        return sources

    def apply(self, root: Path) -> None:
        """Change the files of a copy in place.

        :raises StaleMutant: an old text does not occur exactly once; nothing has been changed then.
        """
        for file, source in self.mutated(root).items():
            (root / file).write_text(source)
