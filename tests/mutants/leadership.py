"""Violations of the rules of leadership and membership (sections 6 and 8; thesis 3.10, 4, 6.2)."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

CONFIGURATION = "raftkv/raft/configuration.py"
LEADERSHIP = "raftkv/raft/leadership.py"
RECOVERY = "raftkv/raft/recovery.py"
REPLICATION = "raftkv/raft/replication.py"
SNAPSHOTTER = "raftkv/server/snapshotter.py"
STATE = "raftkv/raft/state.py"

PAPER = ("tests.raft.test_paper",)
BUGS = ("tests.raft.test_bugs",)

MUTANTS = (
    Mutant(
        name="no-noop",
        rule="A new leader appends an entry of its own term: only that tells which earlier ones are committed.",
        reference="section 8, thesis 6.4",
        edits=(Edit(LEADERSHIP, 'self._append(EntryKind.NOOP, b"")', "self.replication.wanted = True"),),
        hints=PAPER,
    ),
    Mutant(
        name="no-check-quorum",
        rule="A leader that does not hear a majority for an election timeout steps down.",
        reference="thesis 6.2, B6",
        edits=(Edit(LEADERSHIP, "if not self.replication.check_quorum():", "if False:"),),
        hints=(*PAPER, *BUGS),
    ),
    Mutant(
        name="activity-never-forgotten",
        rule="A majority must be heard anew in each election timeout.",
        reference="thesis 6.2, B6",
        edits=(
            Edit(
                REPLICATION,
                "        for progress in self.peers.values():\n            progress.recent_active = False\n",
                "",
            ),
        ),
        hints=(*PAPER, *BUGS),
    ),
    Mutant(
        name="learner-keeps-the-leader",
        rule="Learners do not count towards the quorum that a leader has to hear, nor towards read rounds.",
        reference="thesis 4.2.1, 6.2",
        edits=(
            Edit(
                REPLICATION,
                "return quorum.has_quorum(configuration.voters, configuration.outgoing_voters, present)",
                "return len(present) > len(configuration.voters) // 2",
            ),
        ),
        hints=(*PAPER, "tests.raft.test_configuration", *BUGS),
    ),
    Mutant(
        name="change-before-own-commit",
        rule="A new leader commits an entry of its own term before it proposes a change of the configuration.",
        reference="B20",
        edits=(
            Edit(
                LEADERSHIP,
                "        if not self._has_committed_in_term():\n            # Two leaders",
                "        if False:\n            # Two leaders",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="two-changes-at-once",
        rule="A second change of the configuration is refused while one is under way.",
        reference="section 6, B27",
        edits=(
            Edit(
                LEADERSHIP,
                "if state.configuration.is_joint or state.configurations.current_index > state.commit_index:",
                "if False:",
            ),
        ),
        hints=(*BUGS, *PAPER),
    ),
    Mutant(
        name="no-joint-configuration",
        rule="Voters change through a joint configuration.",
        reference="section 6",
        edits=(Edit(LEADERSHIP, "target = state.configuration.enter_joint(target)", "pass"),),
        hints=PAPER,
    ),
    Mutant(
        name="joint-never-left",
        rule="Once the joint configuration is committed the leader proposes the new one.",
        reference="section 6",
        edits=(
            Edit(
                LEADERSHIP,
                "self._append_configuration(state.configuration.leave_joint())",
                "self.replication.wanted = True",
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="joint-left-before-its-commit",
        rule="The new configuration is proposed only once the joint one is committed.",
        reference="section 6",
        edits=(
            Edit(
                LEADERSHIP,
                "            target = state.configuration.enter_joint(target)\n",
                "            self._append_configuration(state.configuration.enter_joint(target))\n",
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="demoted-voter-stops-voting-early",
        rule="A voter that is to be a learner votes for the old side until the joint configuration is left.",
        reference="section 6, thesis 4.3",
        edits=(
            Edit(
                CONFIGURATION,
                "            outgoing_voters=self.voters,\n",
                "            outgoing_voters=self.voters - demoted,\n",
            ),
        ),
        hints=("tests.raft.test_configuration",),
    ),
    Mutant(
        name="removed-leader-stays",
        rule="A leader that is not in the new configuration steps down once that is committed.",
        reference="section 6",
        edits=(Edit(LEADERSHIP, "elif not state.configuration.is_voter(state.node_id):", "elif False:"),),
        hints=PAPER,
    ),
    Mutant(
        name="removed-leader-tells-nobody",
        rule="A leader that removes itself tells the others first that the change is committed.",
        reference="section 6, B22",
        edits=(
            Edit(
                LEADERSHIP,
                "            self.replication.flush(read_round=self._reads.number)\n            if (successor",
                "            if (successor",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="configuration-not-rolled-back",
        rule="A configuration is taken back when its entry is truncated.",
        reference="section 6, B21",
        edits=(
            Edit(
                STATE,
                "        self.log.truncate_from(index)\n        self.configurations.truncate_from(index)\n",
                "        self.log.truncate_from(index)\n",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="configuration-in-force-at-commit",
        rule="A server uses the latest configuration in its log, committed or not.",
        reference="section 6",
        edits=(
            Edit(
                STATE, "return self.configurations.current\n", "return self.configurations.at(self.commit_index)[0]\n"
            ),
        ),
        hints=(*PAPER, "tests.raft.test_configuration"),
    ),
    Mutant(
        name="configuration-lost-by-compaction",
        rule="Compaction keeps the committed configuration, to which an uncommitted one may roll back.",
        reference="B21",
        edits=(
            Edit(
                CONFIGURATION,
                "        self._history = [held for held in self._history if held[0] >= oldest]\n",
                "        self._history = self._history[-1:]\n",
            ),
        ),
        hints=(*BUGS, "tests.raft.test_configuration"),
    ),
    Mutant(
        name="configuration-of-the-log-ignored-at-start",
        rule="A server that restarts uses the latest configuration of its log.",
        reference="section 6, B21",
        edits=(
            Edit(
                RECOVERY,
                "if entry.kind is EntryKind.CONFIGURATION and entry.index > history.current_index:",
                "if False:",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="configuration-of-the-snapshot-ignored",
        rule="A follower takes over the configuration of a snapshot that it installs.",
        reference="section 7, B21",
        edits=(
            Edit(
                STATE,
                "        self.configurations.restore(snapshot.configuration, snapshot.configuration_index)\n",
                "",
            ),
        ),
        hints=(*BUGS, *PAPER),
    ),
    Mutant(
        name="snapshot-holds-an-uncommitted-configuration",
        rule="A snapshot holds the configuration as of its last entry, not one that is not committed.",
        reference="B21",
        edits=(
            Edit(
                SNAPSHOTTER,
                "self._node.committed_configuration(index)",
                "(self._node.configuration, self._node.configuration_index)",
            ),
        ),
        hints=("tests.server.test_snapshotter",),
    ),
    Mutant(
        name="wiped-member-keeps-its-progress",
        rule="A member that came back with another incarnation has an empty disk: what was known of it is void.",
        reference="B24",
        edits=(
            Edit(
                REPLICATION,
                "return known is not None and known.incarnation != now.members[peer].incarnation",
                "return False",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="write-during-transfer",
        rule="A leader that hands leadership over takes no proposals meanwhile.",
        reference="thesis 3.10, B10",
        edits=(
            Edit(
                LEADERSHIP,
                "        if self.transferring_to is not None:\n            raise",
                "        if False:\n            raise",
            ),
        ),
        hints=(*BUGS, *PAPER),
    ),
    Mutant(
        name="joint-left-during-transfer",
        rule="During a transfer not even a joint configuration is left: the successor lacks the entry.",
        reference="thesis 3.10, B10",
        edits=(
            Edit(
                LEADERSHIP,
                "                return  # the entry would come",
                "                pass  # the entry would come",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="leader-on-its-way-out-takes-writes",
        rule="A leader that the configuration in force leaves out takes no more writes.",
        reference="our design, section 6",
        edits=(Edit(LEADERSHIP, 'raise ProposalDropped("this server is about to step down")', "pass"),),
        hints=BUGS,
    ),
    Mutant(
        name="transfer-never-ends",
        rule="A transfer of leadership is given up after an election timeout.",
        reference="thesis 3.10, B10",
        edits=(
            Edit(
                LEADERSHIP,
                "is_late = self._transfer_elapsed_ticks >= self._state.settings.election_ticks",
                "is_late = False",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="transfer-to-one-behind",
        rule="The successor is asked to campaign only once it has the whole log.",
        reference="thesis 3.10",
        edits=(Edit(LEADERSHIP, "if self.replication.match_index(to) == self._state.log.last_index:", "if True:"),),
        hints=PAPER,
    ),
    Mutant(
        name="uncommitted-without-bound",
        rule="What a leader takes before the first of it is committed is bounded.",
        reference="our design",
        edits=(
            Edit(
                LEADERSHIP,
                "if self._uncommitted_bytes and self._uncommitted_bytes + len(payload) > limit:",
                "if False:",
            ),
        ),
        hints=PAPER,
    ),
)
