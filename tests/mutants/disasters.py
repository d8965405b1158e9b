"""Violations of what happens when a disk stalls, or the majority is gone."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

DISKWATCH = "raftkv/raft/diskwatch.py"
ELECTION = "raftkv/raft/election.py"
LEADERSHIP = "raftkv/raft/leadership.py"
RECOVERY = "raftkv/server/recovery.py"
RECOVERY_TESTS = ("tests.server.test_recovery",)
WATCH_TESTS = ("tests.raft.test_diskwatch",)

MUTANTS = (
    Mutant(
        name="stall-of-the-disk-not-noticed",
        rule="A disk that does not finish a write within an election timeout stalls.",
        reference="our design, B50",
        edits=(
            Edit(
                DISKWATCH,
                "        if self._waits_since(self._patience_ticks, done_write_id):\n            self.stalled = True\n",
                "",
            ),
        ),
        hints=WATCH_TESTS,
    ),
    Mutant(
        name="stall-over-at-once",
        rule="A stall is over only after an election timeout without one, lest leadership go to and fro.",
        reference="our design",
        edits=(
            Edit(
                DISKWATCH,
                "        if self._calm_ticks >= self._patience_ticks:",
                "        if self._calm_ticks >= 1:",
            ),
        ),
        hints=WATCH_TESTS,
    ),
    Mutant(
        name="all-slow-disks-give-way",
        rule="A leader gives way only where the others commit without its disk.",
        reference="our design",
        edits=(
            Edit(
                DISKWATCH,
                "return self.stalled and look is not None and commit_index >= look.last_index",
                "return self.stalled",
            ),
        ),
        hints=WATCH_TESTS,
    ),
    Mutant(
        name="campaign-with-a-stalled-disk",
        rule="A server whose disk stalls does not campaign.",
        reference="our design",
        edits=(
            Edit(
                ELECTION,
                "        if state.disk.stalled or state.may_lack_entries:\n",
                "        if state.may_lack_entries:\n",
            ),
        ),
        hints=WATCH_TESTS,
    ),
    Mutant(
        name="pre-vote-with-a-stalled-disk",
        rule="A server whose disk stalls promises nobody a vote that would not come.",
        reference="our design",
        edits=(
            Edit(
                ELECTION,
                "            free = request.term > state.current_term and not state.disk.stalled",
                "            free = request.term > state.current_term",
            ),
        ),
        hints=WATCH_TESTS,
    ),
    Mutant(
        name="leader-clings-to-its-stalled-disk",
        rule="A leader whose disk stalls hands over, or steps down.",
        reference="our design, B50",
        edits=(
            Edit(
                LEADERSHIP,
                "        if self._gives_way():\n            return\n",
                "",
            ),
        ),
        hints=WATCH_TESTS,
    ),
    Mutant(
        name="recovered-under-its-old-incarnation",
        rule="A survivor that becomes a cluster of one has another incarnation.",
        reference="our design, B24",
        edits=(
            Edit(
                RECOVERY,
                "        incarnation=incarnation,\n        log_cluster_id",
                "        incarnation=old.incarnation,\n        log_cluster_id",
            ),
        ),
        hints=RECOVERY_TESTS,
    ),
    Mutant(
        name="recovered-into-its-old-cluster",
        rule="A survivor that becomes a cluster of one belongs to another cluster.",
        reference="our design",
        edits=(
            Edit(
                RECOVERY,
                "        cluster_id=make_id(),\n",
                "        cluster_id=old.cluster_id,\n",
            ),
        ),
        hints=RECOVERY_TESTS,
    ),
    Mutant(
        name="recovered-in-its-old-term",
        rule="The configuration of the new cluster is of a later term than anything that the old one knew.",
        reference="section 5.1, our design",
        edits=(
            Edit(
                RECOVERY,
                "term=survivor.term + 1)",
                "term=survivor.term)",
            ),
        ),
        hints=RECOVERY_TESTS,
    ),
    Mutant(
        name="recovered-before-its-identity",
        rule="The new identity is on disk before anything else is touched.",
        reference="our design",
        edits=(
            Edit(
                RECOVERY,
                "    store_meta(disk, new)\n    return finish_founding(disk, new, settings)",
                "    finished = finish_founding(disk, new, settings)\n    return finished",
            ),
        ),
        hints=RECOVERY_TESTS,
    ),
    Mutant(
        name="recovered-halfway",
        rule="A recovery that was broken off is finished by whoever opens the directory next.",
        reference="our design",
        edits=(
            Edit(
                RECOVERY,
                "    if meta.founding is not None:\n        meta = finish_founding(disk, meta, settings)\n",
                "",
            ),
        ),
        hints=RECOVERY_TESTS,
    ),
    Mutant(
        name="snapshot-of-the-old-cluster-kept",
        rule="A snapshot of the old cluster is written anew as one of the new one.",
        reference="our design",
        edits=(
            Edit(
                RECOVERY,
                "    _adopt_snapshots(disk, meta)\n    done",
                "    done",
            ),
        ),
        hints=RECOVERY_TESTS,
    ),
)
