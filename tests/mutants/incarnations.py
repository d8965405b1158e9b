"""Violations of what incarnations are for: a disk that is lost counts for nothing, and its node begins anew."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

CHANGES = "raftkv/membership/changes.py"
FOUNDING = "raftkv/membership/founding.py"
PEER_OUTGOING = "raftkv/protocols/peer/outgoing.py"
PEER_SERVICE = "raftkv/protocols/peer/service.py"
REMOVAL = "raftkv/membership/removal.py"
REPLICATION = "raftkv/raft/replication.py"
SERVICE = "raftkv/membership/service.py"
ORIGIN = "raftkv/server/origin.py"

FOUNDING_TESTS = ("tests.membership.test_founding",)
CLUSTER_TESTS = ("tests.membership.test_cluster",)

MUTANTS = (
    Mutant(
        name="wiped-voter-replaced-in-one-step",
        rule="While the name of a wiped voter counts for the old majority, it means the disk that is lost.",
        reference="section 6, B24",
        edits=(
            Edit(
                CHANGES,
                "        return replace(demoted, promoting=demoted.promoting | {member.id})\n",
                "        members = {**demoted.members, member.id: member}\n"
                "        return replace(demoted, members=members, promoting=demoted.promoting | {member.id})\n",
            ),
        ),
        hints=("tests.membership.test_changes",),
    ),
    Mutant(
        name="wiped-voter-stays-one",
        rule="A wiped voter comes back as a learner.",
        reference="B24",
        edits=(
            Edit(
                CHANGES, "    if member.id in configuration.voters:\n        demoted", "    if False:\n        demoted"
            ),
        ),
        hints=("tests.membership.test_changes",),
    ),
    Mutant(
        name="name-taken-from-the-living",
        rule="Nobody takes the place of a member that answers.",
        reference="B24",
        edits=(Edit(SERVICE, "            if silent_ticks >= patience_ticks:\n", "            if True:\n"),),
        hints=CLUSTER_TESTS,
    ),
    Mutant(
        name="founds-although-it-began",
        rule="Where one node has been in a term, the cluster has begun.",
        reference="B24",
        edits=(
            Edit(
                FOUNDING,
                "if standing.holds)",
                "if standing.holds and len(answers) + 1 == len(peers))",
            ),
        ),
        hints=FOUNDING_TESTS,
    ),
    Mutant(
        name="founder-that-never-voted-counts-as-empty",
        rule="A founder counts as empty only for those that it met, with the incarnation that they have now.",
        reference="B24",
        edits=(
            Edit(
                PEER_SERVICE,
                "return False if member is not None and member.incarnation == asker.incarnation else None",
                "return False if member is not None else None",
            ),
        ),
        hints=("tests.protocols.test_peer",),
    ),
    Mutant(
        name="minority-founds",
        rule="A cluster is founded by a majority that holds nothing.",
        reference="B24",
        edits=(Edit(FOUNDING, "if missing and (patient or len(answers) + 1 < needed):", "if missing and patient:"),),
        hints=FOUNDING_TESTS,
    ),
    Mutant(
        name="incarnations-of-founders-forgotten",
        rule="Founders note the incarnations of those that they met, before anybody is counted.",
        reference="B24",
        edits=(Edit(FOUNDING, 'Member(id=name, incarnation=incarnations.get(name, ""),', "Member(id=name,"),),
        hints=FOUNDING_TESTS,
    ),
    Mutant(
        name="read-confirmed-by-a-lost-disk",
        rule="What a lost disk's node echoed confirms no read of the new one.",
        reference="B24, B28",
        edits=(
            Edit(
                REPLICATION,
                "                fresh = self.peers[peer] = self._new_progress()\n",
                "                fresh = self.peers[peer] = self._new_progress()\n"
                "                fresh.read_round = progress.read_round\n",
            ),
        ),
        hints=("tests.raft.test_joined",),
    ),
    Mutant(
        name="name-alone-is-enough-for-a-message",
        rule="What is meant for a member does not reach a node with another data directory.",
        reference="B24",
        edits=(Edit(PEER_OUTGOING, "        if not self._is_member(hello.identity):\n", "        if False:\n"),),
        hints=("tests.protocols.test_peer",),
    ),
    Mutant(
        name="replaced-node-believes-it-is-a-member",
        rule="A node whose name means another disk by now is no member any more.",
        reference="B7, B24",
        edits=(
            Edit(
                REMOVAL,
                'return member is not None and member.incarnation in ("", self._identity.incarnation)',
                "return member is not None",
            ),
        ),
        hints=CLUSTER_TESTS,
    ),
    Mutant(
        name="other-peers-before-the-log-knows",
        rule="Other founders than those of the beginning are refused until the log says who the members are.",
        reference="B26",
        edits=(Edit(ORIGIN, "    if not knows:\n        check_meta(", "    if False:\n        check_meta("),),
        hints=("tests.server.test_beginning",),
    ),
)
