"""Every script of this folder still tells the truth; ``RAFTKV_REWRITE=1`` writes the transcripts anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interaction.script import rewritten

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


class InteractionTests(SynchronousTestCase):
    """One test a script, made below."""

    maxDiff = None


def _test_of(path: Path) -> Callable[[InteractionTests], None]:
    def test(case: InteractionTests) -> None:
        told = path.read_text()
        now = rewritten(told)
        if os.environ.get("RAFTKV_REWRITE") == "1":
            path.write_text(now)
        else:
            case.assertMultiLineEqual(told, now)

    test.__doc__ = told_of(path)
    return test


def told_of(path: Path) -> str:
    """Return the first line of prose of a script."""
    return path.read_text().splitlines()[0].removeprefix("# ")


for _path in SCRIPTS:
    setattr(InteractionTests, f"test_{_path.stem}", _test_of(_path))
