"""The settings below ``limits``: what a node takes in, and for how long it waits."""

from __future__ import annotations

from typing import Final

from raftkv.config.kinds import Seconds, Whole
from raftkv.config.model import GIB, KIB, MIB
from raftkv.config.setting import Setting

LIMITS: Final[tuple[Setting, ...]] = (
    Setting(
        key="limits.maxKeyBytes",
        field="max_key_bytes",
        kind=Whole(1, 64 * KIB),
        unit="bytes",
        doc="Longest key that a write may have; a longer one is `413 too_large`.",
    ),
    Setting(
        key="limits.maxValueBytes",
        field="max_value_bytes",
        kind=Whole(1, 4 * MIB),  # with a batch, it must fit into one message of 8 MiB between nodes
        unit="bytes",
        doc="Longest value that a write may have; a longer one is `413 too_large`.",
    ),
    Setting(
        key="limits.maxBodyBytes",
        field="max_body_bytes",
        kind=Whole(KIB, GIB),
        unit="bytes",
        doc="Longest body of an HTTP request; a longer one is `413 too_large`. JSON can need six bytes for one of "
        "the value, so this is more than `limits.maxValueBytes`.",
    ),
    Setting(
        key="limits.maxBufferedBodyBytes",
        field="max_buffered_body_bytes",
        kind=Whole(KIB, 2**40),
        unit="bytes",
        doc="Memory that all HTTP requests still arriving may take together; past it they are `429 overloaded`. As "
        "much again for the RPC port, where the connection whose message has been under way for the longest time is "
        "told `overloaded` and closed; 16 KiB of each connection do not count there.",
    ),
    Setting(
        key="limits.maxUnreadBytes",
        field="max_unread_bytes",
        kind=Whole(MIB, 2**40),
        unit="bytes",
        doc="Memory that HTTP answers whose clients do not read them may take together; past it the connection that "
        "has not read for the longest time is closed. As much again for the RPC port, where up to 256 KiB of each "
        "connection do not count.",
    ),
    Setting(
        key="limits.maxHeaderBytes",
        field="max_header_bytes",
        kind=Whole(KIB, MIB),
        unit="bytes",
        doc="Longest request line and headers of an HTTP request, together.",
    ),
    Setting(
        key="limits.requestTimeout",
        field="request_timeout_seconds",
        kind=Seconds(0.05, 3600),
        unit="seconds",
        doc="Time after which a read or write that has no answer yet is `504 timeout`.",
    ),
    Setting(
        key="limits.leaderWait",
        field="leader_wait_seconds",
        kind=Seconds(0, 3600),
        unit="seconds",
        doc="Time that a request waits for a leader to be known before it is `503 no_leader`. No more than "
        "`limits.requestTimeout`.",
    ),
    Setting(
        key="limits.headerTimeout",
        field="header_timeout_seconds",
        kind=Seconds(0.05, 3600),
        unit="seconds",
        doc="Time for the headers of a request, or the first message on a msgpack port, to arrive.",
    ),
    Setting(
        key="limits.bodyTimeout",
        field="body_timeout_seconds",
        kind=Seconds(0.05, 3600),
        unit="seconds",
        doc="Time for the body of an HTTP request to arrive.",
    ),
    Setting(
        key="limits.idleTimeout",
        field="idle_timeout_seconds",
        kind=Seconds(0.05, 86_400),
        unit="seconds",
        doc="Time after which an HTTP connection without a request is closed, and one of HTTP or of the RPC port whose "
        "answers wait to be read.",
    ),
    Setting(
        key="limits.maxConnections",
        field="max_connections",
        kind=Whole(1, 1_000_000),
        doc="How many connections each listener holds at once; further ones are closed as they arrive.",
    ),
    Setting(
        key="limits.maxBatchBytes",
        field="max_batch_bytes",
        kind=Whole(KIB, 2 * MIB),
        unit="bytes",
        doc="Size at which a log entry takes no further command. One command that is larger by itself still gets an "
        "entry of its own.",
    ),
    Setting(
        key="limits.maxBatchCommands",
        field="max_batch_commands",
        kind=Whole(1, 65_536),
        doc="How many commands one log entry holds.",
    ),
    Setting(
        key="limits.maxPendingWrites",
        field="max_pending_writes",
        kind=Whole(1, 10_000_000),
        doc="How many writes may wait for their commitment on one node; past it they are `429 overloaded`.",
    ),
    Setting(
        key="limits.maxPendingBytes",
        field="max_pending_bytes",
        kind=Whole(KIB, 2**40),
        unit="bytes",
        doc="How many bytes of writes may wait for their commitment on one node; past it they are `429 overloaded`. "
        "Besides its keys and values, each command counts as 256 bytes, as does each operation and compare of a "
        "transaction.",
    ),
    Setting(
        key="limits.maxSessions",
        field="max_sessions",
        kind=Whole(1, 10_000_000),
        doc="How many clients may have an exactly-once session at once; a further one gets `429 overloaded`.",
    ),
    Setting(
        key="limits.sessionTTL",
        field="session_ttl_seconds",
        kind=Seconds(1, 86_400 * 365),
        unit="seconds",
        doc="Time for which a session is kept after its last write. Well above the longest time for which a client "
        "repeats a write (10 seconds by default, at most 600): a repeat that comes later is applied a second time.",
    ),
    Setting(
        key="limits.maxTransactionOperations",
        field="max_transaction_operations",
        kind=Whole(1, 10_000),
        doc="How many operations a transaction may have, and how many compares, those nested included; more is "
        "`400 bad_request`.",
    ),
    Setting(
        key="limits.maxTransactionBytes",
        field="max_transaction_bytes",
        kind=Whole(KIB, 6 * MIB),
        unit="bytes",
        doc="How large the keys and values of a transaction may be together; more is `413 too_large`.",
    ),
    Setting(
        key="limits.minLeaseTTL",
        field="min_lease_ttl_seconds",
        kind=Seconds(0.1, 3600),
        unit="seconds",
        doc="Shortest time to live of a lease, of a key and of a lock; a shorter one is `400 bad_request`.",
    ),
    Setting(
        key="limits.maxLeaseTTL",
        field="max_lease_ttl_seconds",
        kind=Seconds(1, 86_400 * 36_500),
        unit="seconds",
        doc="Longest time to live of a lease, of a key and of a lock; a longer one is `400 bad_request`.",
    ),
    Setting(
        key="limits.maxLeases",
        field="max_leases",
        kind=Whole(1, 100_000_000),
        doc="How many leases there may be, those of single keys and of locks included; a further one gets "
        "`429 overloaded`.",
    ),
    Setting(
        key="limits.maxLockWait",
        field="max_lock_wait_seconds",
        kind=Seconds(0, 86_400 * 365),
        unit="seconds",
        doc="Longest time that a request may wait for a lock; a longer one is `400 bad_request`.",
    ),
    Setting(
        key="limits.maxLockWaiters",
        field="max_lock_waiters",
        kind=Whole(1, 10_000_000),
        doc="How many may hold locks or wait for them; a further one gets `429 overloaded`.",
    ),
    Setting(
        key="limits.maxWatchers",
        field="max_watchers",
        kind=Whole(0, 1_000_000),
        doc="How many watches may be open on one node, long polls included; a further one gets `429 overloaded`. Each "
        "has a connection, so `limits.maxConnections` has to be larger.",
    ),
    Setting(
        key="limits.watchStall",
        field="watch_stall_seconds",
        kind=Seconds(0.1, 86_400),
        unit="seconds",
        doc="Time for which a watch may leave unread what it was told before it is cut off with an `overflow` event.",
    ),
    Setting(
        key="limits.watchBufferBytes",
        field="watch_buffer_bytes",
        kind=Whole(KIB, 64 * MIB),
        unit="bytes",
        doc="How much of what a watch was told may wait for its client to read it; what follows waits in the history. "
        "A single revision may exceed it.",
    ),
)
