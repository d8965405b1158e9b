"""Violations of the rules of replication and commitment (sections 5.3, 5.4, 7; thesis 10.2.1)."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

FOLLOWER = "raftkv/raft/follower.py"
LOG = "raftkv/raft/log.py"
NODE = "raftkv/raft/node.py"
PROGRESS = "raftkv/raft/progress.py"
QUORUM = "raftkv/raft/quorum.py"
RECOVERY = "raftkv/raft/recovery.py"
REPLICATION = "raftkv/raft/replication.py"
STATE = "raftkv/raft/state.py"
DURABILITY = "raftkv/raft/durability.py"

PAPER = ("tests.raft.test_paper",)
BUGS = ("tests.raft.test_bugs",)

MUTANTS = (
    Mutant(
        name="old-term-entry-counted",
        rule="Only an entry of the current term is committed by counting.",
        reference="section 5.4.2, Figure 8, B11",
        edits=(
            Edit(
                REPLICATION,
                "if index > state.commit_index and state.log.term_at(index) == state.current_term:",
                "if index > state.commit_index:",
            ),
        ),
        hints=(*BUGS, *PAPER),
    ),
    Mutant(
        name="old-term-entry-blocks",
        rule="An entry of an earlier term does not keep those behind it from being committed.",
        reference="section 5.4.2, B12",
        edits=(
            Edit(
                REPLICATION,
                "state.log.term_at(index) == state.current_term:",
                "state.log.term_at(state.commit_index + 1) == state.current_term:",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="own-copy-before-its-sync",
        rule="The leader's own copy counts only once its sync has returned.",
        reference="thesis 10.2.1, B4",
        edits=(Edit(REPLICATION, "return self._state.log.stable_index", "return self._state.log.last_index"),),
        hints=BUGS,
    ),
    Mutant(
        name="minority-commits",
        rule="An entry is committed once a majority has it, not fewer.",
        reference="section 5.3",
        edits=(Edit(QUORUM, "reverse=True)[len(voters) // 2]", "reverse=True)[(len(voters) - 1) // 2]"),),
        hints=("tests.raft.test_quorum",),
    ),
    Mutant(
        name="joint-commit-by-one-side",
        rule="Under a joint configuration commitment needs a majority of both sides.",
        reference="section 6",
        edits=(
            Edit(
                QUORUM,
                "return min(agreed, _majority_value(outgoing, value)) if outgoing else agreed",
                "return agreed",
            ),
        ),
        hints=("tests.raft.test_quorum", *PAPER),
    ),
    Mutant(
        name="learner-counted",
        rule="Learners do not count towards commitment.",
        reference="thesis 4.2.1",
        edits=(
            Edit(
                REPLICATION,
                "quorum.committed_index(configuration.voters, ",
                "quorum.committed_index(configuration.voters | configuration.learners, ",
            ),
        ),
        hints=(*PAPER, "tests.raft.test_configuration", *BUGS),
    ),
    Mutant(
        name="apply-before-commit",
        rule="Only committed entries are applied.",
        reference="section 5.3, Figure 2, B17",
        edits=(
            Edit(
                STATE,
                "        if self.last_applied >= self.commit_index or not",
                "        if self.last_applied >= self.log.last_index or not",
            ),
            Edit(
                STATE,
                "self.log.slice(start, self.commit_index + 1,",
                "self.log.slice(start, self.log.last_index + 1,",
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="commit-goes-back",
        rule="The commit index never falls.",
        reference="Figure 2, B13",
        edits=(Edit(STATE, "self.commit_index = max(self.commit_index, index)", "self.commit_index = index"),),
        hints=BUGS,
    ),
    Mutant(
        name="commit-beyond-the-message",
        rule="A follower commits min(leaderCommit, index of the last entry of the message), not its own last index.",
        reference="Figure 2, B16",
        edits=(
            Edit(
                FOLLOWER,
                "state.commit_to(min(message.leader_commit, last_verified))",
                "state.commit_to(min(message.leader_commit, state.log.last_index))",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="heartbeat-commits-the-unverified",
        rule="A heartbeat commits no more than the follower is known to have.",
        reference="section 5.3, B16",
        edits=(
            Edit(
                REPLICATION,
                "commit_index = min(state.commit_index, progress.match_index)",
                "commit_index = state.commit_index",
            ),
            Edit(
                FOLLOWER,
                "        state.commit_to(message.commit_index)\n    else:",
                "        state.commit_to(message.commit_index)\n"
                "    elif state.commit_to(state.log.last_index) is None:\n"
                "        pass\n"
                "    else:",
            ),
        ),
        hints=(*PAPER, *BUGS),
    ),
    Mutant(
        name="heartbeat-believed-blindly",
        rule="A follower that lost its log does not commit what it does not have because a heartbeat says so.",
        reference="B24",
        edits=(Edit(FOLLOWER, "if message.commit_index <= state.log.last_index:", "if True:"),),
        hints=BUGS,
    ),
    Mutant(
        name="no-consistency-check",
        rule="Entries are taken only where the entry before them has the index and the term that the leader says.",
        reference="section 5.3",
        edits=(Edit(FOLLOWER, "        return term == prev_log_term\n", "        return term is not None\n"),),
        hints=PAPER,
    ),
    Mutant(
        name="truncate-without-conflict",
        rule="Entries are deleted only where they conflict: a late message changes nothing.",
        reference="section 5.3, B14",
        edits=(Edit(FOLLOWER, "if term not in (None, entry.term):", "if term is not None:"),),
        hints=BUGS,
    ),
    Mutant(
        name="conflict-kept",
        rule="An entry that conflicts with the leader's is deleted, with all that follow.",
        reference="section 5.3",
        edits=(Edit(FOLLOWER, "if term not in (None, entry.term):", "if False:"),),
        hints=PAPER,
    ),
    Mutant(
        name="acknowledge-before-the-sync",
        rule="A follower acknowledges entries only once they are on its disk.",
        reference="section 5.3, B4",
        edits=(
            Edit(
                FOLLOWER,
                "    state.send_once_durable(\n        AppendEntriesResponse(\n",
                "    state.send(\n        AppendEntriesResponse(\n",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="acknowledge-the-whole-log",
        rule="A follower acknowledges only what was verified, not what else its log holds.",
        reference="section 5.3, B16",
        edits=(
            Edit(
                FOLLOWER,
                "acknowledge(state, message.sender, max(last_verified, state.commit_index), ",
                "acknowledge(state, message.sender, state.log.last_index, ",
            ),
        ),
        hints=(*PAPER, *BUGS),
    ),
    Mutant(
        name="acknowledgement-released-early",
        rule="What promises something about the disk waits for the write that holds it, not for the one before.",
        reference="our design, B4",
        edits=(
            Edit(
                DURABILITY,
                "self._held.append((self._last_write_id + self.write_wanted, message))",
                "self._held.append((self._last_write_id, message))",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="writes-taken-as-done",
        rule="A finished write releases what waited for it, and nothing that waits for a later one.",
        reference="our design, B4",
        edits=(
            Edit(
                DURABILITY,
                "while self._held and self._held[0][0] <= self._done_write_id:",
                "while self._held:",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="truncated-entry-stays-stable",
        rule="What was truncated is no longer stable, and comes back as new.",
        reference="our design, B4",
        edits=(
            Edit(
                LOG,
                "        self.stable_index = min(self.stable_index, index)\n        self._pending",
                "        self._pending",
            ),
        ),
        hints=("tests.raft.test_log",),
    ),
    Mutant(
        name="replaced-log-stays-stable",
        rule="What comes behind a snapshot is not stable through the longer log that the snapshot replaced.",
        reference="our design, B4",
        edits=(
            Edit(LOG, "self._clamp_stable(min(self.stable_index, index))", "self._clamp_stable(self.stable_index)"),
        ),
        hints=("tests.raft.test_log",),
    ),
    Mutant(
        name="pending-write-vouches-for-the-replaced",
        rule="A write under way does not make stable what replaced its entries meanwhile.",
        reference="our design, B4",
        edits=(
            Edit(
                LOG,
                "        self._pending = deque((write_id, min(stable, index)) for write_id, stable in self._pending)\n",
                "",
            ),
        ),
        hints=("tests.raft.test_log",),
    ),
    Mutant(
        name="match-index-kept",
        rule="What a leader knows of its peers begins anew with each leadership.",
        reference="Figure 2, B15",
        edits=(
            Edit(
                REPLICATION,
                "        self.peers: dict[str, Progress] = {}\n",
                '        self.peers: dict[str, Progress] = vars(state).get("kept_peers", {})\n',
            ),
            Edit(
                REPLICATION,
                "        self.peers = {peer: self.peers[peer] for peer in sorted(self.peers)}\n",
                "        self.peers = {peer: self.peers[peer] for peer in sorted(self.peers)}\n"
                '        vars(self._state)["kept_peers"] = self.peers\n',
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="acknowledgement-beyond-the-log",
        rule="A leader does not believe an acknowledgement of what is not in its log.",
        reference="Figure 2, B24",
        edits=(Edit(REPLICATION, "elif message.match_index > log.last_index:", "elif False:"),),
        hints=(*BUGS, *PAPER),
    ),
    Mutant(
        name="lost-entries-not-sent-again",
        rule="A peer that is behind is asked where it stands, also when nothing new is to be sent.",
        reference="section 5.3, B18",
        edits=(
            Edit(
                PROGRESS,
                "        if self.match_index < last_index:\n            self.contact_wanted = True\n",
                "",
            ),
        ),
        hints=(*BUGS, "tests.raft.test_progress"),
    ),
    Mutant(
        name="late-rejection-believed",
        rule="A late rejection does not put back what the peer is known to have.",
        reference="section 5.3, B19",
        edits=(
            Edit(
                PROGRESS,
                "if self.state is ProgressState.SNAPSHOT or rejected_index <= self.match_index:",
                "if self.state is ProgressState.SNAPSHOT:",
            ),
            Edit(
                PROGRESS,
                "max(min(rejected_index, retry_index + 1), self.match_index + 1)",
                "max(min(rejected_index, retry_index + 1), 1)",
            ),
        ),
        hints=("tests.raft.test_progress",),
    ),
    Mutant(
        name="window-without-bound",
        rule="What is on its way to a peer is bounded.",
        reference="thesis 10.2.1",
        edits=(
            Edit(
                PROGRESS,
                "return len(self._messages) >= self._max_messages or self._bytes >= self._max_bytes",
                "return False",
            ),
        ),
        hints=("tests.raft.test_progress",),
    ),
    Mutant(
        name="stale-snapshot-accepted",
        rule="A snapshot that ends before what is committed changes nothing.",
        reference="section 7, B46",
        edits=(Edit(FOLLOWER, "if snapshot.index <= state.commit_index:", "if False:"),),
        hints=BUGS,
    ),
    Mutant(
        name="snapshot-drops-newer-entries",
        rule="Where the log holds the snapshot's last entry, what follows it is kept.",
        reference="Figure 13, B46",
        edits=(Edit(FOLLOWER, "elif state.log.term_at(snapshot.index) == snapshot.term:", "elif False:"),),
        hints=BUGS,
    ),
    Mutant(
        name="snapshot-keeps-a-conflict",
        rule="Where the log holds another entry at the snapshot's last index, the whole log goes.",
        reference="Figure 13, B46",
        edits=(
            Edit(
                FOLLOWER,
                "elif state.log.term_at(snapshot.index) == snapshot.term:",
                "elif state.log.term_at(snapshot.index) is not None:",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="delivered-snapshot-taken-as-match",
        rule="A delivered file is no acknowledgement: only the peer says what it has.",
        reference="section 7, our design",
        edits=(
            Edit(
                PROGRESS,
                "        self.next_index = max(self.match_index, index if delivered else 0) + 1\n"
                "        self._enter(ProgressState.PROBE)\n",
                "        self.match_index = max(self.match_index, index)\n"
                "        self.next_index = self.match_index + 1\n"
                "        self._enter(ProgressState.PROBE)\n",
            ),
        ),
        hints=("tests.raft.test_progress", *BUGS),
    ),
    Mutant(
        name="compaction-below-the-snapshot",
        rule="No entry is dropped that no snapshot includes.",
        reference="section 7",
        edits=(Edit(LOG, "if index > min(self.snapshot_index, self.last_index):", "if index > self.last_index:"),),
        hints=("tests.raft.test_log", *PAPER),
    ),
    Mutant(
        name="gap-behind-the-snapshot",
        rule="A node whose log begins behind the end of its snapshot does not start.",
        reference="B45",
        edits=(Edit(RECOVERY, "if log.first_index > log.snapshot_index + 1:", "if False:"),),
        hints=BUGS,
    ),
    Mutant(
        name="log-of-a-later-term",
        rule="A node whose log is of a later term than its hard state does not start.",
        reference="B3",
        edits=(Edit(RECOVERY, "if log.last_term > hard_state.term:", "if False:"),),
        hints=BUGS,
    ),
    Mutant(
        name="refused-probe-sent-again-at-once",
        rule="Who has no room for entries gets them again with its next sign of life, not in an endless loop.",
        reference="B50",
        edits=(
            Edit(
                PROGRESS,
                "if self.state is not ProgressState.REPLICATE and not took_nothing:\n",
                "if self.state is not ProgressState.REPLICATE:\n",
            ),
        ),
        hints=("tests.raft.test_progress",),
    ),
)
