"""Violations of what leases, locks and elections promise."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

HOUSEKEEPING = "raftkv/server/housekeeping.py"
LEASES = "raftkv/kvstore/leases.py"
LOCKS = "raftkv/kvstore/locks.py"
PROPOSALS = "raftkv/server/proposals.py"
READING = "raftkv/kvstore/reading.py"
RECORDS = "raftkv/kvstore/records.py"
STORE = "raftkv/kvstore/store.py"
TENURES = "raftkv/kvstore/tenures.py"

HISTORY_TESTS = ("tests.kvstore.test_history", "tests.kvstore.test_twin")
HOUSEKEEPING_TESTS = ("tests.server.test_housekeeping",)
LEASE_TESTS = ("tests.kvstore.test_leases",)
LOCK_TESTS = ("tests.kvstore.test_locks",)
PROPOSALS_TESTS = ("tests.server.test_proposals",)

MUTANTS = (
    Mutant(
        name="lock-held-with-no-lease",
        rule="The lease of a key stays while a lock is held with it.",
        reference="B62",
        edits=(Edit(TENURES, "        leases.named_by_tickets = locks.leases\n", ""),),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="lease-without-key-or-lock",
        rule="The lease of a key that outlived it goes with the last lock.",
        reference="our design",
        edits=(Edit(TENURES, "        self.leases.let_go(ticket.lease)\n", ""),),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="renewed-from-its-old-end",
        rule="A keepalive gives a lease its whole time from now, not from where it was to end.",
        reference="B36",
        edits=(
            Edit(
                LEASES,
                "        renewed = (ttl_ms, now_ms + ttl_ms, kind)\n",
                "        renewed = (ttl_ms, lease[1] + ttl_ms, kind)\n",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="key-stays-on-its-lease",
        rule="A put without a lease takes the key off the one that it had.",
        reference="our design",
        edits=(
            Edit(
                RECORDS,
                "                self._leases.detach(lease, key)\n                self._leases.settle()\n",
                "                pass\n",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="deleted-key-stays-on-its-lease",
        rule="A deleted key is off its lease.",
        reference="our design",
        edits=(
            Edit(
                RECORDS,
                "        if old[4]:\n            self._leases.detach(old[4], key)\n        return (key, None, old)",
                "        return (key, None, old)",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="lease-of-a-key-outlives-it",
        rule="The lease that was made for a key goes with it.",
        reference="our design",
        edits=(Edit(LEASES, "                self._lonely.add(number)\n", "                pass\n"),),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="numbers-used-again",
        rule="No lease or ticket has the number of an earlier one, also behind a snapshot.",
        reference="B36",
        edits=(Edit(STORE, "last_number=header.last_number)", "last_number=max([0, *leases.numbers()]))"),),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="restored-leases-have-no-keys",
        rule="Restored leases have their keys.",
        reference="B48",
        edits=(
            Edit(
                RECORDS,
                (
                    "            if record[4]:\n"
                    "                self._leases.attach(record[4], key)\n"
                    "        self._keys.extend(keys)"
                ),
                "        self._keys.extend(keys)",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="ended-lease-revoked",
        rule="A lease whose time has come cannot be revoked any more: it has ended.",
        reference="B37",
        edits=(
            Edit(
                TENURES,
                (
                    "        if not self.leases.is_alive(lease, now_ms):\n"
                    "            return (LEASE_NOT_FOUND, lease)\n"
                    "        deleted"
                ),
                (
                    "        if self.leases.get(lease) is None:\n"
                    "            return (LEASE_NOT_FOUND, lease)\n"
                    "        deleted"
                ),
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="end-of-a-lease-in-many-revisions",
        rule="The end of a lease deletes its keys in one revision.",
        reference="B60",
        edits=(
            Edit(
                TENURES,
                "        if slots:\n            self._records.commit(slots)\n        if self.leases",
                "        for slot in slots:\n            self._records.commit([slot])\n        if self.leases",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="put-with-an-ended-lease",
        rule="A put that attaches a key to a lease that has ended is refused.",
        reference="B37",
        edits=(
            Edit(
                TENURES,
                "        elif lease > NO_LEASE and not self.leases.is_alive(lease, now_ms):\n",
                "        elif lease > NO_LEASE and self.leases.get(lease) is None:\n",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="followers-end-leases",
        rule="Who does not lead proposes the end of nothing.",
        reference="B35",
        edits=(
            Edit(
                HOUSEKEEPING,
                (
                    "        if not self._may_propose:\n"
                    "            return\n"
                    "        store = self._store()\n"
                    "        deadline"
                ),
                "        if self._under_way:\n            return\n        store = self._store()\n        deadline",
            ),
        ),
        hints=HOUSEKEEPING_TESTS,
    ),
    Mutant(
        name="waits-never-end",
        rule="Waits for locks end in their time, also where no lease does.",
        reference="our design",
        edits=(
            Edit(
                TENURES,
                "        deadlines = (self.leases.next_deadline_ms(), self.locks.next_deadline_ms())\n",
                "        deadlines = (self.leases.next_deadline_ms(),)\n",
            ),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="rest-of-what-is-due-waits",
        rule="What is left over when many leases end at once follows at once.",
        reference="our design",
        edits=(
            Edit(
                HOUSEKEEPING,
                (
                    "        if more and self._may_propose:\n"
                    "            self._propose(expire(_ENDED_AT_ONCE), self._expired)\n"
                ),
                "",
            ),
        ),
        hints=HOUSEKEEPING_TESTS,
    ),
    Mutant(
        name="digest-ignores-leases-and-locks",
        rule="States that differ in a lease or a lock have different digests.",
        reference="B38",
        edits=(Edit(READING, "numbered_sum=tenures.leases.weight + tenures.locks.weight", "numbered_sum=0"),),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="digest-ignores-what-is-compacted",
        rule="States that differ in what may be read have different digests.",
        reference="B38",
        edits=(
            Edit(
                READING,
                "            compact_revision=self._compact_revision,\n        )",
                "            compact_revision=0,\n        )",
            ),
        ),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="digest-not-kept-up-by-renewal",
        rule="The digest follows the end of a lease when it is put off.",
        reference="B38",
        edits=(Edit(LEASES, "digest.numbered_weight(number, renewed) - digest.numbered_weight(number, lease)", "0"),),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="leases-without-a-bound",
        rule="There are no more leases than the limit.",
        reference="B70",
        edits=(Edit(PROPOSALS, "        if store.lease_count >= limits.max_leases and", "        if False and"),),
        hints=PROPOSALS_TESTS,
    ),
    Mutant(
        name="last-come-first-served",
        rule="Who asks first for a lock has it first.",
        reference="B62",
        edits=(
            Edit(
                LOCKS,
                "        self._by_name.setdefault(ticket.name, []).append(number)\n",
                "        self._by_name.setdefault(ticket.name, []).insert(1, number)\n",
            ),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="due-holder-keeps-the-lock",
        rule="A lock whose lease is due is free for whoever asks, though nobody has ended it yet.",
        reference="B62",
        edits=(
            Edit(TENURES, "        self._free_if_due(name, now_ms)\n        for number in", "        for number in"),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="lock-for-who-has-gone",
        rule="Who waits with a lease that has ended never has the lock.",
        reference="B62",
        edits=(Edit(TENURES, "(not head[1].lease or self.leases.is_alive(head[1].lease, now_ms))", "True"),),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="any-token-frees",
        rule="Only the token of the holder frees a lock.",
        reference="B62",
        edits=(
            Edit(
                TENURES,
                "        if token and (holder is None or holder[1].token != token):\n",
                "        if token and holder is None:\n",
            ),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="another-locks-ticket-frees",
        rule="A ticket is one of its own lock.",
        reference="B62",
        edits=(
            Edit(
                TENURES, "            if ticket is None or ticket.name != name:\n", "            if ticket is None:\n"
            ),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="asked-twice-queued-twice",
        rule="Who asks again with the lease that has the lock is answered with what it has.",
        reference="B63",
        edits=(
            Edit(TENURES, "            if ticket is not None and ticket.name == name:\n", "            if False:\n"),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="freed-lock-leaves-its-lease",
        rule="The lease of a lock goes with it.",
        reference="our design",
        edits=(
            Edit(
                TENURES,
                "        if lease is not None and lease[2] == OF_LOCK and ticket.lease == number:\n",
                "        if False:\n",
            ),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="others-value-deleted",
        rule="Freeing a lock deletes the key that showed its holder only if it still does.",
        reference="our design",
        edits=(
            Edit(
                TENURES,
                "        if record is not None and record[4] == ticket.lease:\n",
                "        if record is not None:\n",
            ),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="shown-after-resigning",
        rule="The key that shows who holds a lock goes when it is freed.",
        reference="our design",
        edits=(Edit(TENURES, "        self._stop_showing(ticket)\n", ""),),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="elected-and-not-shown",
        rule="The key that shows who holds a lock is set in the revision that is the token.",
        reference="our design",
        edits=(
            Edit(
                TENURES,
                "        slots = [self._records.change(ticket.key, ticket.value, lease)] if ticket.key else []\n",
                "        slots = []\n",
            ),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="lock-outlives-its-lease",
        rule="A lock is free once its lease has ended.",
        reference="B62",
        edits=(
            Edit(
                TENURES,
                (
                    "        for ticket in self.locks.of_lease(lease):\n"
                    "            self._leave(ticket, now_ms)\n"
                    "        return deleted"
                ),
                "        return deleted",
            ),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="waiter-not-told",
        rule="Whoever waits for a lock is told once it has it.",
        reference="B66",
        edits=(
            Edit(
                LOCKS,
                (
                    "            self._by_lease.setdefault(lease, []).append(number)\n"
                    "        self.settled.append(number)\n"
                ),
                "            self._by_lease.setdefault(lease, []).append(number)\n",
            ),
        ),
        hints=LOCK_TESTS,
    ),
    Mutant(
        name="waiters-without-a-bound",
        rule="No more wait for locks than the limit.",
        reference="B70",
        edits=(
            Edit(PROPOSALS, "        if store.ticket_count >= limits.max_lock_waiters and", "        if False and"),
        ),
        hints=PROPOSALS_TESTS,
    ),
)
