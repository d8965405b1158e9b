"""The settings below ``history``: how much of the past is kept."""

from __future__ import annotations

from typing import Final

from raftkv.config.kinds import Seconds, Whole
from raftkv.config.setting import Setting

HISTORY: Final[tuple[Setting, ...]] = (
    Setting(
        key="history.maxRevisions",
        field="history_max_revisions",
        kind=Whole(0, 2**40),
        doc="How many past revisions can be read and watched; older ones are compacted. 0 for no bound.",
    ),
    Setting(
        key="history.maxBytes",
        field="history_max_bytes",
        kind=Whole(0, 2**40),
        unit="bytes",
        doc="How large the log entries may be, about, whose revisions can be read and watched; older ones are "
        "compacted. 0 for no bound.",
    ),
    Setting(
        key="history.maxAge",
        field="history_max_age_seconds",
        kind=Seconds(0, 86_400 * 3650),
        unit="seconds",
        doc="How long past revisions can be read and watched, in cluster time; older ones are compacted. 0 for no "
        "bound.",
    ),
)
