"""Violations of what leases and stale reads promise (thesis 6.4.1)."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

DURABILITY = "raftkv/raft/durability.py"
ELECTION = "raftkv/raft/election.py"
FRESHNESS = "raftkv/server/freshness.py"
LEADERSHIP = "raftkv/raft/leadership.py"
LEASES = "raftkv/raft/leases.py"
NODE = "raftkv/raft/node.py"
QUORUM = "raftkv/raft/quorum.py"
READS = "raftkv/server/reads.py"
REPLICATION = "raftkv/raft/replication.py"
LEASE_TESTS = ("tests.raft.test_leases",)
READ_TESTS = ("tests.server.test_reads",)

MUTANTS = (
    Mutant(
        name="lease-counted-from-the-answer",
        rule="A lease counts from the moment when the heartbeat was sent, not from when its answer came.",
        reference="thesis 6.4.1, B31",
        edits=(
            Edit(
                REPLICATION,
                "until = lease_end(message, drift_bound=self._state.settings.clock_drift_bound)",
                "until = self._state.now + message.promised_seconds",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="lease-without-drift-bound",
        rule="A lease is shorter than the promise by what the clocks may drift.",
        reference="thesis 6.4.1, B31",
        edits=(
            Edit(
                LEASES,
                "return answer.sent_at + answer.promised_seconds * (1 - drift_bound) / (1 + drift_bound)",
                "return answer.sent_at + answer.promised_seconds",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="lease-on-one-promise",
        rule="A lease needs the promises of a majority.",
        reference="thesis 6.4.1",
        edits=(
            Edit(
                QUORUM,
                "    return _agreed(voters, outgoing, until)",
                "    return max(until(voter) for voter in voters)",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="lease-before-own-commit",
        rule="A leader that has not committed an entry of its term serves no read by its lease.",
        reference="thesis 6.4, B29",
        edits=(
            Edit(
                LEADERSHIP,
                "if now is None or not self._lease_sought or not self._has_committed_in_term():",
                "if now is None or not self._lease_sought:",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="lease-during-a-transfer",
        rule="While leadership is being transferred no read is served by the lease.",
        reference="thesis 3.10, B10",
        edits=(
            Edit(
                LEADERSHIP,
                "            and self.transferring_to is None\n            and not self._asked",
                "            and not self._asked",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="lease-after-timeout-now",
        rule="Once another was asked to lead there is no lease any more in that term.",
        reference="thesis 3.10, B10",
        edits=(
            Edit(
                LEADERSHIP,
                "            and not self._asked_another_to_lead\n",
                "",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="lease-of-one-that-leaves",
        rule="Who leads without being a voter holds no lease.",
        reference="section 6, our design",
        edits=(
            Edit(
                LEADERSHIP,
                "            and state.configuration.is_voter(state.node_id)\n"
                "        )\n\n    @property\n    def _round_wanted",
                "        )\n\n    @property\n    def _round_wanted",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="vote-against-the-promise",
        rule="Whoever promised a lease grants no vote until it is over.",
        reference="thesis 6.4.1",
        edits=(
            Edit(
                ELECTION,
                "        if self.is_bound and request.term >= state.current_term and not may_break:",
                "        if False:",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="campaign-against-the-promise",
        rule="Whoever promised a lease does not campaign at the word of another leader than the one it promised.",
        reference="thesis 3.10, 6.4.1",
        edits=(
            Edit(
                ELECTION,
                "        may_break = not self.is_bound or "
                "self._promise.yields_to_successor(self._state.current_term + 1)\n",
                "        may_break = True\n",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="transfer-breaks-any-promise",
        rule="Only an election that the promised leader itself asked for may break the promise.",
        reference="thesis 3.10, 6.4.1",
        edits=(
            Edit(
                LEASES,
                "return term == self._term + 1",
                "return True",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="promise-before-the-term-is-durable",
        rule="A promise is given only once the term is on disk, else a restart would not know of it.",
        reference="thesis 6.4.1, our design",
        edits=(
            Edit(
                ELECTION,
                "if state.now is None or not state.durability.hard_state_is_durable:",
                "if state.now is None:",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="promise-while-the-term-is-written",
        rule="A term that the disk was given is not on it until its write is done: no promise is given meanwhile.",
        reference="thesis 6.4.1, our design",
        edits=(
            Edit(
                DURABILITY,
                "return written and self._done_write_id >= self._hard_state_write_id",
                "return written",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="clock-that-goes-back",
        rule="A clock that goes back is taken as standing still.",
        reference="B31",
        edits=(
            Edit(
                NODE,
                "state.now = now if state.now is None else max(state.now, now)",
                "state.now = now",
            ),
        ),
        hints=LEASE_TESTS,
    ),
    Mutant(
        name="lease-read-before-apply",
        rule="A read by lease waits until everything committed has been applied.",
        reference="thesis 6.4.1, B32",
        edits=(
            Edit(
                READS,
                "return index is not None and not state_machine.is_restoring and "
                "state_machine.store.applied_index >= index",
                "return index is not None and not state_machine.is_restoring",
            ),
        ),
        hints=READ_TESTS,
    ),
    Mutant(
        name="age-counted-from-the-answer",
        rule="The age of a state counts from when the question was asked.",
        reference="our design",
        edits=(
            Edit(
                FRESHNESS,
                "self._complete_as_of = asked",
                "self._complete_as_of = self._steady_seconds()",
            ),
        ),
        hints=READ_TESTS,
    ),
    Mutant(
        name="age-without-drift-bound",
        rule="The age that is told is lengthened by what the clock may be slow.",
        reference="our design, B31",
        edits=(
            Edit(
                FRESHNESS,
                "return (self._steady_seconds() - self._complete_as_of) / (1 - self._drift_bound)",
                "return self._steady_seconds() - self._complete_as_of",
            ),
        ),
        hints=READ_TESTS,
    ),
    Mutant(
        name="stale-bound-ignored",
        rule="A stale read with a bound is not answered from an older state.",
        reference="our design",
        edits=(
            Edit(
                READS,
                "return age is not None and age <= max_stale_seconds",
                "return age is not None",
            ),
        ),
        hints=READ_TESTS,
    ),
    Mutant(
        name="promise-forgotten-with-the-leader",
        rule="A promise to a leader that counts on a lease outlives the connections to it.",
        reference="thesis 6.4.1",
        edits=(
            Edit(
                ELECTION,
                "        self._comes_first = True\n",
                "        self._comes_first = True\n        self._promise = Promise()\n",
            ),
        ),
        hints=("tests.raft.test_closed_leader", "tests.simulation.test_closings"),
    ),
)
