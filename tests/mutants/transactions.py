"""Violations of transactions, counters, and what sessions keep of their answers."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

CHECKING = "raftkv/kvstore/checking.py"
COUNTERS = "raftkv/kvstore/counters.py"
RECORDS = "raftkv/kvstore/records.py"
SESSIONS = "raftkv/kvstore/sessions.py"
STORE = "raftkv/kvstore/store.py"
TRANSACTIONS = "raftkv/kvstore/transactions.py"

CHECKING_TESTS = ("tests.kvstore.test_checking",)
SESSION_TESTS = ("tests.kvstore.test_sessions",)
TRANSACTION_TESTS = ("tests.kvstore.test_transactions",)

MUTANTS = (
    Mutant(
        name="always-success",
        rule="Where a compare does not hold the other list runs.",
        reference="our design",
        edits=(Edit(TRANSACTIONS, "(success if succeeded else failure)", "success"),),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="any-compare-suffices",
        rule="All compares must hold.",
        reference="our design",
        edits=(Edit(TRANSACTIONS, "succeeded = all(tuple(", "succeeded = any(tuple("),),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="any-key-of-a-range-suffices",
        rule="A compare of a range must hold for every key in it.",
        reference="our design",
        edits=(
            Edit(
                TRANSACTIONS, "        return all(_compare(record[target]", "        return any(_compare(record[target]"
            ),
        ),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="nothing-is-less",
        rule="What is not there is neither less nor greater than anything.",
        reference="our design",
        edits=(
            Edit(
                TRANSACTIONS,
                "    if found is None or operand is None:\n        return False\n",
                "    if found is None or operand is None:\n        return operator == LESS\n",
            ),
        ),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="absent-key-has-no-numbers",
        rule="A key that is not there has the numbers 0.",
        reference="our design",
        edits=(Edit(TRANSACTIONS, "return None if target == TARGET_VALUE else 0", "return None"),),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="revision-for-each-write",
        rule="A transaction takes one revision for all that it writes.",
        reference="B60",
        edits=(
            Edit(
                TRANSACTIONS,
                "records.commit(list(slots.values())) if slots else",
                "[records.commit([slot]) for slot in list(slots.values())][-1] if slots else",
            ),
        ),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="revision-for-reading",
        rule="A transaction that changes nothing takes no revision.",
        reference="our design",
        edits=(
            Edit(
                TRANSACTIONS,
                "records.commit(list(slots.values())) if slots else records.revision",
                "records.commit(list(slots.values()))",
            ),
        ),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="key-written-twice",
        rule="A transaction writes each key once, or not at all.",
        reference="B55",
        edits=(Edit(TRANSACTIONS, "        if key in self._records.open_slots:\n", "        if False:\n"),),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="transaction-with-an-ended-lease",
        rule="A transaction that attaches a key to a lease that has ended is refused.",
        reference="B37",
        edits=(
            Edit(
                TRANSACTIONS,
                "        if lease > NO_LEASE and not self._leases.is_alive(lease, self._now_ms):\n",
                "        if False:\n",
            ),
        ),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="ranges-without-a-bound",
        rule="A range in a transaction ends once it is too large for an answer.",
        reference="B70",
        edits=(Edit(TRANSACTIONS, "            max_bytes=MAX_RANGE_BYTES,\n", "            max_bytes=None,\n"),),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="keys-only-with-values",
        rule="A range of keys only leaves the values out.",
        reference="our design",
        edits=(Edit(TRANSACTIONS, "if flags & KEYS_ONLY else found.items", "if False else found.items"),),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="revert-leaves-a-ghost",
        rule="A key that a refused transaction deleted is not among those that are no more.",
        reference="our design",
        edits=(
            Edit(
                RECORDS,
                (
                    "            if record is None:\n"
                    "                self.ghosts.unbury(key)\n"
                    "            elif type(before)"
                ),
                "            if record is not None and type(before)",
            ),
        ),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="revert-forgets-a-ghost",
        rule="A key that a refused transaction made anew is among those that are no more again.",
        reference="our design",
        edits=(
            Edit(RECORDS, "            elif type(before) is int:\n                self.ghosts.bury(key, before)\n", ""),
        ),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="range-delete-takes-the-end",
        rule="The end of a range is not in it.",
        reference="our design",
        edits=(
            Edit(
                STORE,
                "        keys = list(records.keys(start, end or None, reverse=False))\n",
                '        keys = list(records.keys(start, end + b"\\0" if end else None, reverse=False))\n',
            ),
        ),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="counter-drops-the-lease",
        rule="An increment leaves the key with its lease.",
        reference="our design",
        edits=(Edit(COUNTERS, 'b"%d" % number, KEEP_LEASE)', 'b"%d" % number, 0)'),),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="counter-overflows",
        rule="A sum that does not fit into 64 bits is refused.",
        reference="our design",
        edits=(
            Edit(
                COUNTERS,
                "    if not _LOWEST <= number <= _HIGHEST:\n        return (OUT",
                "    if False:\n        return (OUT",
            ),
        ),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="counter-of-what-python-takes-for-one",
        rule="A number is digits, perhaps with a minus, and nothing else.",
        reference="B40",
        edits=(
            Edit(
                COUNTERS, "    if not digits.isdigit() or", '    if not digits.replace(b"_", b"").strip().isdigit() or'
            ),
        ),
        hints=TRANSACTION_TESTS,
    ),
    Mutant(
        name="operations-without-a-bound",
        rule="A transaction of too many operations is refused at the door.",
        reference="B70",
        edits=(Edit(CHECKING, "        count.operations(len(success) + len(failure))\n", ""),),
        hints=CHECKING_TESTS,
    ),
    Mutant(
        name="nesting-without-a-bound",
        rule="Transactions nested too deeply are refused at the door.",
        reference="B70",
        edits=(Edit(CHECKING, "        if depth > MAX_DEPTH:\n", "        if False:\n"),),
        hints=CHECKING_TESTS,
    ),
    Mutant(
        name="large-answers-kept",
        rule="An answer too large to be kept is not.",
        reference="B70",
        edits=(Edit(SESSIONS, "        if len(answer) > MAX_KEPT_ANSWER_BYTES:\n", "        if False:\n"),),
        hints=SESSION_TESTS,
    ),
    Mutant(
        name="refusals-not-kept",
        rule="A failed condition is an answer, and is given again to a repeat.",
        reference="B63",
        edits=(
            Edit(
                STORE,
                "        self._sessions.remember(session, sequence, fingerprint, result)\n",
                (
                    "        if result[0] == OK:\n"
                    "            self._sessions.remember(session, sequence, fingerprint, result)\n"
                ),
            ),
        ),
        hints=SESSION_TESTS,
    ),
)
