"""Violations of what the digest of the state is for: a wrong state is found, served by nobody, and fetched anew."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

FENCE = "raftkv/server/fence.py"
NOTES = "raftkv/server/notes.py"
REPLICA = "raftkv/server/replica.py"
RESYNC = "raftkv/server/resync.py"
SNAPSHOTTER = "raftkv/server/snapshotter.py"

NOTES_TESTS = ("tests.server.test_notes",)
FENCE_TESTS = ("tests.server.test_fence",)

MUTANTS = (
    Mutant(
        name="plurality-is-right",
        rule="Only what a majority of the voters holds is right; two of five that agree prove nothing.",
        reference="our design, B38",
        edits=(
            Edit(
                NOTES,
                "if has_quorum(voters, outgoing, who)), None)",
                "if len(who) > 1 or len(voters) == 1), None)",
            ),
        ),
        hints=NOTES_TESTS,
    ),
    Mutant(
        name="learners-vote-on-states",
        rule="A learner's note is judged and does not count.",
        reference="our design",
        edits=(
            Edit(
                NOTES,
                "        for name in {*voters, *outgoing}:\n            digest = self.digest_at(name, index)\n",
                "        for name in self._digests:\n            digest = self.digest_at(name, index)\n",
            ),
        ),
        hints=NOTES_TESTS,
    ),
    Mutant(
        name="first-verdict-stands",
        rule="The latest index at which a majority agrees decides.",
        reference="our design",
        edits=(
            Edit(
                NOTES,
                "for i in self._digests.get(name, ())}, reverse=True))",
                "for i in self._digests.get(name, ())}))",
            ),
        ),
        hints=NOTES_TESTS,
    ),
    Mutant(
        name="tie-goes-unnoticed",
        rule="Where voters differ without a majority, writes stop.",
        reference="our design",
        edits=(Edit(NOTES, "if len(holders) > 1 and not is_settled", "if False and not is_settled"),),
        hints=NOTES_TESTS,
    ),
    Mutant(
        name="old-notes-held-against-new-state",
        rule="What was noted of a state that was replaced says nothing about the one that replaced it.",
        reference="our design, B47",
        edits=(Edit(FENCE, "        self._notes.start_over()\n", ""),),
        hints=FENCE_TESTS,
    ),
    Mutant(
        name="stale-reads-of-a-wrong-state",
        rule="A fenced node serves no read, however stale it may be.",
        reference="our design",
        edits=(
            Edit(
                FENCE,
                "        if self.is_fenced:\n            return Fenced()\n",
                '        if self.is_fenced and consistency != "stale":\n            return Fenced()\n',
            ),
        ),
        hints=FENCE_TESTS,
    ),
    Mutant(
        name="fenced-node-takes-writes",
        rule="A fenced node takes no writes: what it would answer is made of a wrong state.",
        reference="our design",
        edits=(Edit(REPLICA, "else self.fence.refusal()\n", "else None\n"),),
        hints=FENCE_TESTS,
    ),
    Mutant(
        name="waiters-get-wrong-answers",
        rule="Who waits when the fence closes is answered then, not by the wrong state.",
        reference="our design, B65",
        edits=(Edit(FENCE, "        self._interrupt(Fenced)\n", ""),),
        hints=FENCE_TESTS,
    ),
    Mutant(
        name="fenced-leader-stays",
        rule="A leader whose state is wrong hands leadership over.",
        reference="our design",
        edits=(Edit(FENCE, "            self._give_way(is_time=is_time)\n", ""),),
        hints=FENCE_TESTS,
    ),
    Mutant(
        name="fence-forgotten-at-restart",
        rule="A restart does not open the fence: the snapshot that it begins with may be of the wrong state.",
        reference="our design, B39",
        edits=(Edit(FENCE, "self.is_fenced = fenced_index > 0", "self.is_fenced = False"),),
        hints=FENCE_TESTS,
    ),
    Mutant(
        name="fence-opens-once-replaced",
        rule="A state that was fetched is compared before it is served.",
        reference="our design",
        edits=(
            Edit(
                FENCE,
                "is_due = verdict.agrees and verdict.index >= self._fenced_index and",
                "is_due = (self.was_replaced or verdict.agrees) and",
            ),
            Edit(FENCE, "        if not self._verdict.agrees:\n", "        if False:\n"),
        ),
        hints=FENCE_TESTS,
    ),
    Mutant(
        name="wrong-states-have-a-vote",
        rule="A state that is known to be wrong does not count when others are compared.",
        reference="our design",
        edits=(Edit(FENCE, "return self.is_fenced and not self.was_replaced", "return False"),),
        hints=FENCE_TESTS,
    ),
    Mutant(
        name="strangers-are-counted",
        rule="A note counts only if it comes from a member, with the member's own data directory.",
        reference="our design, B24",
        edits=(
            Edit(
                FENCE,
                '        if known is None or known.incarnation not in ("", incarnation):\n            raise Conflict(',
                "        if False:\n            raise Conflict(",
            ),
        ),
        hints=FENCE_TESTS,
    ),
    Mutant(
        name="wrong-snapshots-kept",
        rule="The snapshots of a wrong state are gone before the fetched one is used.",
        reference="our design, B42",
        edits=(
            Edit(
                "raftkv/snapshot/files.py",
                "            if name != kept:\n",
                "            if False:\n",
            ),
        ),
        hints=("tests.snapshot.test_files",),
    ),
    Mutant(
        name="untrusted-state-lent",
        rule="A snapshot is lent only once a majority has agreed with the state that it was made of.",
        reference="our design",
        edits=(
            Edit(
                RESYNC,
                "first_index <= newest < min(told_index, fence.agreed_index)",
                "first_index <= newest",
            ),
            Edit(RESYNC, "            and snapshot.index < self._trusted_index\n", ""),
        ),
        hints=FENCE_TESTS,
    ),
    Mutant(
        name="wrong-state-kept-on-disk",
        rule="No snapshot is taken of a state that is known to be wrong.",
        reference="our design",
        edits=(
            Edit(
                SNAPSHOTTER,
                "        if not self._is_trusted():\n            refused.errback(Fenced())\n",
                "        if False:\n            refused.errback(Fenced())\n",
            ),
        ),
        hints=FENCE_TESTS,
    ),
    Mutant(
        name="resync-without-end",
        rule="A node that differs again and again fetches the state ever more seldom.",
        reference="our design",
        edits=(
            Edit(
                RESYNC,
                "self._election_ticks * min(_PATIENCE * 2 ** (self._relapses - 1), _MAX_BACKOFF)",
                "0",
            ),
        ),
        hints=FENCE_TESTS,
    ),
    Mutant(
        name="log-not-applied-again",
        rule="What follows a fetched snapshot is applied again from our own log.",
        reference="our design",
        edits=(Edit(RESYNC, "        self._node.apply_again(snapshot.index)\n", ""),),
        hints=FENCE_TESTS,
    ),
)
