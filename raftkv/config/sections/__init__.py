"""Every setting, by the section of the file that it stands in: the only list of what can be set.

A new one is a field of :mod:`raftkv.config.model`, with its default, and an entry here; what it has to do with others
is checked in :mod:`raftkv.config.checks`.
"""

from typing import Final

from raftkv.config.sections.history import HISTORY
from raftkv.config.sections.limits import LIMITS
from raftkv.config.sections.listeners import LISTENERS
from raftkv.config.sections.raft import RAFT
from raftkv.config.setting import Setting

__all__ = ["HISTORY", "LIMITS", "LISTENERS", "RAFT", "SETTINGS"]

SETTINGS: Final[tuple[Setting, ...]] = (*LISTENERS, *RAFT, *HISTORY, *LIMITS)
