"""Violations of the key-value model: the past, compaction, transactions, leases and locks."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

CHECKING = "raftkv/kvstore/checking.py"
HISTORY = "raftkv/kvstore/history.py"
HOUSEKEEPING = "raftkv/server/housekeeping.py"
LEASES = "raftkv/kvstore/leases.py"
READING = "raftkv/kvstore/reading.py"
RECORDS = "raftkv/kvstore/records.py"
SNAPSHOTTING = "raftkv/kvstore/snapshotting.py"
STORE = "raftkv/kvstore/store.py"
TENURES = "raftkv/kvstore/tenures.py"
TRANSACTIONS = "raftkv/kvstore/transactions.py"

HISTORY_TESTS = ("tests.kvstore.test_history",)
LEASE_TESTS = ("tests.kvstore.test_leases",)
LOCK_TESTS = ("tests.kvstore.test_locks",)
TRANSACTION_TESTS = ("tests.kvstore.test_transactions",)

MUTANTS = (
    Mutant(
        name="compact-revision-unreadable",
        rule="The compact revision itself can be read.",
        reference="B59",
        edits=(
            Edit(
                READING,
                "        if revision < self._compact_revision:\n",
                "        if revision <= self._compact_revision:\n",
            ),
        ),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="compacted-events-skipped",
        rule="Events that are compacted are refused, never skipped.",
        reference="B57",
        edits=(Edit(READING, "        if from_revision < self._compact_revision:\n", "        if False:\n"),),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="event-at-the-compact-revision-lost",
        rule="The events of the compact revision itself are kept.",
        reference="B57",
        edits=(Edit(STORE, "self._records.history.compact(revision)", "self._records.history.compact(revision + 1)"),),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="transaction-reads-by-what-is-freed",
        rule="What a transaction may read of the past depends on the log alone.",
        reference="B33",
        edits=(Edit(TRANSACTIONS, "        if revision < self._compact_revision:\n", "        if False:\n"),),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="snapshot-shows-what-is-freed",
        rule="Equal states give equal snapshots, however much of what was compacted each node has freed.",
        reference="B40",
        edits=(Edit(SNAPSHOTTING, "type(previous) is not int or previous >= oldest else None", "True else None"),),
        hints=(*HISTORY_TESTS, "tests.kvstore.test_stateful"),
    ),
    Mutant(
        name="snapshot-sees-freeing",
        rule="A snapshot holds the history of its moment, whatever is freed meanwhile.",
        reference="B48",
        edits=(Edit(HISTORY, "        self._shared = {id(segment) for segment in self._segments}\n", ""),),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="transaction-half-done",
        rule="A transaction that cannot be carried out changes nothing.",
        reference="our design",
        edits=(
            Edit(
                TRANSACTIONS,
                "            records.revert(list(slots.values()))\n            answer: Result",
                "            answer: Result",
            ),
        ),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="revert-forgets-leases",
        rule="What a refused transaction took off its lease is on it again.",
        reference="our design",
        edits=(
            Edit(
                RECORDS,
                "                self._by_key[key] = old\n                if old[4]:\n",
                "                self._by_key[key] = old\n                if False:\n",
            ),
        ),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="late-keepalive-accepted",
        rule="A lease whose time has come cannot be renewed.",
        reference="B37",
        edits=(Edit(LEASES, "return lease is not None and lease[1] > now_ms", "return lease is not None"),),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="renewed-lease-expires",
        rule="An expiry ends only what is due where it is applied.",
        reference="B35",
        edits=(Edit(LEASES, "            if present == at_ms:\n", "            if present is not None:\n"),),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="lease-expires-early",
        rule="A lease lives for its whole time to live.",
        reference="B34",
        edits=(
            Edit(
                LEASES,
                "        return None if first is None or first[0] > now_ms else first[1]\n",
                "        return None if first is None or first[0] > now_ms + 1 else first[1]\n",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="idle-leader-tells-no-time",
        rule="While a lease runs, the log is told the time.",
        reference="B36",
        edits=(
            Edit(
                HOUSEKEEPING,
                "if now_ms >= deadline_ms or now_ms >= store.cluster_time_ms + _TIME_MARK_MS:",
                "if now_ms >= deadline_ms:",
            ),
        ),
        hints=("tests.server.test_housekeeping",),
    ),
    Mutant(
        name="key-of-a-lease-stays",
        rule="The end of a lease deletes its keys.",
        reference="our design",
        edits=(Edit(TENURES, "        if slots:\n            self._records.commit(slots)\n", "        slots = []\n"),),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="fence-ignores-the-lease",
        rule="A holder that is past its lease holds nothing.",
        reference="B62",
        edits=(
            Edit(
                TENURES,
                "        if holder is None or not self.leases.is_alive(holder[1].lease, now_ms):\n",
                "        if holder is None:\n",
            ),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="fence-ignores-the-token",
        rule="A fenced write needs the token of the present holder.",
        reference="B62",
        edits=(Edit(TENURES, "return None if holder[1].token == token else", "return None if True else"),),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="lock-without-a-revision",
        rule="Each lock taken is a revision of its own, so that tokens grow.",
        reference="B62",
        edits=(
            Edit(
                TENURES,
                "token=self._records.commit(slots), lease=lease)",
                "token=self._records.commit(slots) if slots else self._records.revision, lease=lease)",
            ),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="late-waiter-gets-the-lock",
        rule="Whose wait has ended never has the lock.",
        reference="our design",
        edits=(Edit(TENURES, "            if head[1].deadline_ms > now_ms and (", "            if True and ("),),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="double-writes-let-in",
        rule="A transaction that writes one key twice is refused at the door.",
        reference="our design",
        edits=(Edit(CHECKING, "        writes_of(command)\n", ""),),
        hints=("tests.kvstore.test_checking",),
    ),
)
