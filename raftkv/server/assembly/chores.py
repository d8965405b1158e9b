"""What a leader has to remember to forget: idle sessions, leases that have come to their time, old revisions."""

from __future__ import annotations

from raftkv.config import NodeConfig
from raftkv.server.assembly.heart import Heart
from raftkv.server.driver import Participant
from raftkv.server.housekeeping import Compaction, SessionExpiry, TenureExpiry
from raftkv.server.proposals import Proposals


def make_chores(config: NodeConfig, heart: Heart, proposals: Proposals) -> tuple[Participant, ...]:
    """Make what proposes to forget, in the order of its turns."""
    return (
        SessionExpiry(
            node=heart.node,
            store=heart.store,
            submit=proposals.submit,
            session_ttl_seconds=config.limits.session_ttl_seconds,
            tick_interval_seconds=config.tick_interval_seconds,
        ),
        TenureExpiry(
            node=heart.node,
            store=heart.store,
            now_ms=proposals.cluster_time_ms,
            submit=proposals.submit,
        ),
        Compaction(
            node=heart.node,
            store=heart.store,
            now_ms=proposals.cluster_time_ms,
            submit=proposals.submit,
            max_revisions=config.history_max_revisions,
            max_bytes=config.history_max_bytes,
            max_age_seconds=config.history_max_age_seconds,
            tick_interval_seconds=config.tick_interval_seconds,
        ),
    )
