"""What every checker of the simulator says when a rule was broken."""

from __future__ import annotations


class Violation(Exception):
    """A rule was broken; the message says which, by whom and where.

    :ivar rule: a short name, the same for each breach of one rule.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule = rule
        self.message = message

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"
