"""Violations of the rules of linearizable reads (section 8, thesis 6.4)."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

LEADERSHIP = "raftkv/raft/leadership.py"
NODE = "raftkv/raft/node.py"
READS = "raftkv/raft/reads.py"
REPLICATION = "raftkv/raft/replication.py"
SERVER_READS = "raftkv/server/reads.py"
STATE_MACHINE = "raftkv/server/statemachine.py"

PAPER = ("tests.raft.test_paper",)
BUGS = ("tests.raft.test_bugs",)

MUTANTS = (
    Mutant(
        name="read-without-confirmation",
        rule="A leader answers a read only after a majority has confirmed that it still leads.",
        reference="thesis 6.4, B28",
        edits=(
            Edit(
                LEADERSHIP,
                "if not self._reads.under_way or not self.replication.echoed(self._reads.number):",
                "if not self._reads.under_way:",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="read-before-own-commit",
        rule="A leader that has not committed an entry of its term does not know what is committed: reads wait.",
        reference="thesis 6.4, B29",
        edits=(
            Edit(
                LEADERSHIP,
                "return self._reads.wanted and self._has_committed_in_term()",
                "return self._reads.wanted",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="read-joins-a-round-under-way",
        rule="A read cannot use a round of confirmation that began before it.",
        reference="thesis 6.4, B30",
        edits=(
            Edit(
                READS,
                "        self._waiting[reader] = None\n",
                "        (self._current if self.under_way else self._waiting)[reader] = None\n",
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="echo-of-an-earlier-round",
        rule="Only the echo of this round, or of a later one, confirms it.",
        reference="thesis 6.4, B28",
        edits=(
            Edit(REPLICATION, "if progress.read_round >= read_round}", "if progress.read_round >= read_round - 1}"),
        ),
        hints=(*PAPER, *BUGS),
    ),
    Mutant(
        name="read-index-is-what-was-applied",
        rule="The read index is the commit index, not what the leader has applied.",
        reference="thesis 6.4",
        edits=(
            Edit(
                LEADERSHIP, "self._reads.start(self._state.commit_index)", "self._reads.start(self._state.last_applied)"
            ),
        ),
        hints=(*BUGS, *PAPER),
    ),
    Mutant(
        name="follower-reads-by-itself",
        rule="A follower asks the leader for the read index.",
        reference="thesis 6.4, B28",
        edits=(
            Edit(
                NODE,
                "self._forwarded_reads.add(context, lease=lease)",
                "self._state.reads.append(ReadState(context=context, index=self._state.commit_index))",
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="late-answer-fits-any-question",
        rule="A late answer to an earlier question is for none of the reads that wait now.",
        reference="thesis 6.4, B28",
        edits=(Edit(READS, "        if number != self.number:\n            return []\n", ""),),
        hints=(*PAPER, *BUGS),
    ),
    Mutant(
        name="question-numbers-collide-after-a-restart",
        rule="An answer to a question of the life before fits none of this life.",
        reference="our design, B28",
        edits=(Edit(NODE, "first_number=random.getrandbits(48)", "first_number=0 * random.getrandbits(48)"),),
        hints=(*PAPER, *BUGS),
    ),
    Mutant(
        name="waiting-reads-collide",
        rule="Every question of a node has a number of its own.",
        reference="our design",
        edits=(
            Edit(
                SERVER_READS,
                "context, self._next_context = self._next_context, self._next_context + 1",
                "context = self._next_context",
            ),
        ),
        hints=("tests.server.test_reads",),
    ),
    Mutant(
        name="lost-read-served",
        rule="A read that was lost with its leader is asked anew, not answered.",
        reference="thesis 6.4, B28",
        edits=(
            Edit(
                SERVER_READS,
                "self._gathered.extend(asked.reads)\n            else:",
                "self._serve(asked, 0)\n            else:",
            ),
            Edit(
                SERVER_READS,
                "            self._gathered.extend(self._asked.pop(context).reads)\n        if",
                "            self._serve(self._asked.pop(context), 0)\n        if",
            ),
        ),
        hints=("tests.server.test_reads",),
    ),
    Mutant(
        name="read-before-apply",
        rule="A read waits until the read index has been applied.",
        reference="thesis 6.4, B32",
        edits=(
            Edit(
                STATE_MACHINE,
                "if self._loading is None and self.store.applied_index >= index:",
                "if True:",
            ),
        ),
        hints=("tests.server.test_statemachine", "tests.server.test_reads"),
    ),
    Mutant(
        name="readers-served-one-early",
        rule="A reader that waits for an entry is not served by the one before.",
        reference="thesis 6.4, B32",
        edits=(
            Edit(
                STATE_MACHINE,
                "readers[0][0] <= self.store.applied_index:",
                "readers[0][0] <= self.store.applied_index + 1:",
            ),
        ),
        hints=("tests.server.test_statemachine", "tests.server.test_reads"),
    ),
    Mutant(
        name="stale-read-of-a-half-restored-state",
        rule="While a snapshot is restored not even a stale read is served: the state is older than what was promised.",
        reference="our design, B32",
        edits=(Edit(SERVER_READS, "done(NoLeader() if self._state_machine.is_restoring else None)", "done(None)"),),
        hints=("tests.server.test_reads",),
    ),
)
