"""Violations of what changes of the members promise."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

CHANGES = "raftkv/membership/changes.py"
DIRECTORY = "raftkv/membership/directory.py"
PROMOTER = "raftkv/membership/promoter.py"
REMOVAL = "raftkv/membership/removal.py"
SERVICE = "raftkv/membership/service.py"
NOTES = "raftkv/persistence/membership.py"
CHANGE_TESTS = ("tests.membership.test_changes",)
CLUSTER_TESTS = ("tests.membership.test_cluster",)
DIRECTORY_TESTS = ("tests.membership.test_directory",)
PROMOTER_TESTS = ("tests.membership.test_promoter",)
REMOVAL_TESTS = ("tests.membership.test_removal",)

MUTANTS = (
    Mutant(
        name="promoted-too-early",
        rule="A learner becomes a voter only once it has caught up, in two rounds in a row.",
        reference="thesis 4.2.1",
        edits=(
            Edit(
                PROMOTER,
                "            and self._rounds.get((name, configuration.members[name].incarnation), 0) >= _ROUNDS\n",
                "",
            ),
        ),
        hints=PROMOTER_TESTS,
    ),
    Mutant(
        name="promoted-without-incarnation",
        rule="A member of whom the incarnation is not known is not made a voter.",
        reference="our design, B24",
        edits=(
            Edit(
                PROMOTER,
                "            if configuration.members[name].incarnation\n            and ",
                "            if ",
            ),
        ),
        hints=PROMOTER_TESTS,
    ),
    Mutant(
        name="promoted-while-silent",
        rule="A learner that is not heard is not made a voter.",
        reference="thesis 4.2.1",
        edits=(
            Edit(
                PROMOTER,
                "            and progress[name].ticks_since_contact < self._election_ticks\n",
                "",
            ),
        ),
        hints=PROMOTER_TESTS,
    ),
    Mutant(
        name="promotion-forgotten-by-the-next-leader",
        rule="Who is to be promoted stands in the configuration, for the next leader to go on with.",
        reference="our design",
        edits=(
            Edit(
                CHANGES,
                '    if new.role != "learner":\n        promoting.add(wanted.id)\n',
                "",
            ),
        ),
        hints=CHANGE_TESTS,
    ),
    Mutant(
        name="learner-promoted-by-joining",
        rule="A learner that says where it is stays a learner.",
        reference="B25",
        edits=(
            Edit(
                CHANGES,
                'role: Literal["voter", "learner"] | None = None',
                'role: Literal["voter", "learner"] | None = "voter"',
            ),
        ),
        hints=CHANGE_TESTS,
    ),
    Mutant(
        name="loss-of-quorum-not-refused",
        rule="A change after which those who answer could decide nothing is refused.",
        reference="our design",
        edits=(
            Edit(
                CHANGES,
                "    if len(target.voters) - len(silent) < needed:",
                "    if False:",
            ),
        ),
        hints=CHANGE_TESTS,
    ),
    Mutant(
        name="silent-member-is-healthy",
        rule="A member that was not heard within an election timeout does not count as one that answers.",
        reference="our design",
        edits=(
            Edit(
                SERVICE,
                "            if progress.match_index and progress.ticks_since_contact < self._election_ticks\n",
                "            if progress.match_index\n",
            ),
        ),
        hints=CLUSTER_TESTS,
    ),
    Mutant(
        name="second-change-not-refused",
        rule="Of two changes at once the second is refused.",
        reference="B27",
        edits=(
            Edit(
                SERVICE,
                "            if self._changing:\n                raise Conflict(",
                "            if False:\n                raise Conflict(",
            ),
        ),
        hints=CLUSTER_TESTS,
    ),
    Mutant(
        name="change-answered-before-its-commit",
        rule="A change is answered once it is committed, not before.",
        reference="B27",
        edits=(
            Edit(
                SERVICE,
                "            if node.commit_index >= entry.index:\n",
                "            if True:\n",
            ),
            Edit(
                SERVICE,
                "                if not configuration.is_joint and index >= entry.index:\n                    return\n",
                "                return\n",
            ),
        ),
        hints=CLUSTER_TESTS,
    ),
    Mutant(
        name="change-answered-while-joint",
        rule="A change is done once the joint configuration has been left.",
        reference="section 6, B27",
        edits=(
            Edit(
                SERVICE,
                "                if not configuration.is_joint and index >= entry.index:\n",
                "                if index >= entry.index:\n",
            ),
        ),
        hints=CLUSTER_TESTS,
    ),
    Mutant(
        name="change-of-another-term-taken-for-ours",
        rule="A change whose entry was replaced by another leader's is not taken for done.",
        reference="B65",
        edits=(
            Edit(
                SERVICE,
                "                if node.term_at(entry.index) not in (None, entry.term):\n"
                "                    raise ProposalDropped\n",
                "",
            ),
        ),
        hints=CLUSTER_TESTS,
    ),
    Mutant(
        name="transfer-in-a-joint-configuration",
        rule="Leadership is transferred only once a change of the members is over.",
        reference="thesis 3.10, our design",
        edits=(
            Edit(
                SERVICE,
                "            while node.configuration.is_joint and node.role is Role.LEADER:",
                "            while False:",
            ),
        ),
        hints=CLUSTER_TESTS,
    ),
    Mutant(
        name="another-directory-under-the-same-name",
        rule="A node that comes under the name of a member with another data directory is refused.",
        reference="B24",
        edits=(
            Edit(
                CHANGES,
                "    if wanted.incarnation and known.incarnation and wanted.incarnation != known.incarnation:",
                "    if False:",
            ),
        ),
        hints=CHANGE_TESTS,
    ),
    Mutant(
        name="address-of-another-incarnation-believed",
        rule="Where a member is is not taken from somebody else who gives its name.",
        reference="B24",
        edits=(
            Edit(
                DIRECTORY,
                '        if member is not None and member.incarnation not in ("", known.incarnation):',
                "        if False:",
            ),
        ),
        hints=DIRECTORY_TESTS,
    ),
    Mutant(
        name="nonsense-for-an-address",
        rule="What is no address does not come into the configuration.",
        reference="our design",
        edits=(
            Edit(
                DIRECTORY,
                "if known is None or not all(map(_is_reachable, (known.raft_addr, known.rpc_addr, known.http_addr))):",
                "if known is None:",
            ),
        ),
        hints=DIRECTORY_TESTS,
    ),
    Mutant(
        name="removed-by-an-uncommitted-change",
        rule="A node is removed by a committed configuration, never by one that may be taken back.",
        reference="section 6, B21",
        edits=(
            Edit(
                REMOVAL,
                "        configuration, index = self._node.committed_configuration()\n        in_force",
                "        configuration, index = self._node.configuration, self._node.configuration_index\n"
                "        in_force",
            ),
        ),
        hints=REMOVAL_TESTS,
    ),
    Mutant(
        name="removal-of-a-former-life-counts",
        rule="Configurations from before a node joined do not remove it.",
        reference="our design, B23",
        edits=(
            Edit(
                REMOVAL,
                "        if index > self._first_index and not named:",
                "        if not named:",
            ),
            Edit(
                REMOVAL,
                "        if index <= max(self._first_index, self._node.committed_configuration()[1]):",
                "        if index <= self._node.committed_configuration()[1]:",
            ),
        ),
        hints=REMOVAL_TESTS,
    ),
    Mutant(
        name="older-answer-removes",
        rule="An answer about the members that is older than what is known here removes nobody.",
        reference="B26",
        edits=(
            Edit(
                REMOVAL,
                "        if index <= max(self._first_index, self._node.committed_configuration()[1]):\n"
                "            return  # it knows no more than we do\n",
                "",
            ),
        ),
        hints=REMOVAL_TESTS,
    ),
    Mutant(
        name="removed-node-starts-again",
        rule="A node that was removed does not start again on its directory.",
        reference="B7, B23",
        edits=(
            Edit(
                NOTES,
                '    if meta is None or meta.cluster_id == value["cluster_id"]:',
                "    if False:",
            ),
        ),
        hints=("tests.persistence",),
    ),
)
