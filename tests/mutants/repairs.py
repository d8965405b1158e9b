"""Violations while a damaged log is made whole."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

REPAIR = "raftkv/persistence/repair.py"
REPAIRING = "raftkv/server/repairing.py"

REPAIRING_TESTS = ("tests.server.test_repairing", "tests.server.test_asking")
REPAIR_TESTS = ("tests.persistence.test_repair",)

MUTANTS = (
    Mutant(
        name="damaged-node-gives-itself-a-voice",
        rule="What may be given up is decided by a majority without the node that lacks it.",
        reference="B41, B42",
        edits=(
            Edit(
                REPAIRING,
                "        votes = dict.fromkeys(others - {self._node_id}, True)\n",
                "        votes = dict.fromkeys(others | {self._node_id}, True)\n",
            ),
        ),
        hints=REPAIRING_TESTS,
    ),
    Mutant(
        name="damaged-members-count-as-lacking",
        rule="That a damaged member lacks an entry says nothing: it may have had it.",
        reference="B41",
        edits=(Edit(REPAIRING, "                if not answer.is_damaged:\n", "                if True:\n"),),
        hints=REPAIRING_TESTS,
    ),
    Mutant(
        name="loser-says-it-never-had-it",
        rule="Who may have lost what it had says so when it is asked.",
        reference="B41, B42",
        edits=(Edit(REPAIRING, "EntriesAnswer(is_damaged=node.may_lack_entries)", "EntriesAnswer()"),),
        hints=REPAIRING_TESTS,
    ),
    Mutant(
        name="removed-member-counts-as-lacking",
        rule="That a removed member lacks what came later says nothing.",
        reference="B41",
        edits=(
            Edit(
                REPAIRING,
                "            if self._is_removed():\n                return fail(Removed())",
                "            if False:\n                return fail(Removed())",
            ),
        ),
        hints=REPAIRING_TESTS,
    ),
    Mutant(
        name="supplied-from-another-log",
        rule="Only a log that holds the entry of that index and term may supply what comes before it.",
        reference="section 5.3, B41",
        edits=(
            Edit(
                REPAIRING,
                "        if node.term_at(request.anchor_index) != request.anchor_term or previous_term is None:\n",
                "        if previous_term is None:\n",
            ),
        ),
        hints=REPAIRING_TESTS,
    ),
    Mutant(
        name="supplied-from-a-log-that-was-cut",
        rule="A log that was cut while it was read supplies nothing.",
        reference="B41",
        edits=(
            Edit(
                REPAIRING,
                "        if not entries or self._node.term_at(request.anchor_index) != request.anchor_term:\n",
                "        if not entries:\n",
            ),
        ),
        hints=REPAIRING_TESTS,
    ),
    Mutant(
        name="supplied-before-its-sync",
        rule="Only what is on a member's own disk is supplied.",
        reference="B4, B41",
        edits=(
            Edit(
                REPAIRING,
                "request.first + MAX_ENTRIES, node.stable_index + 1)",
                "request.first + MAX_ENTRIES, node.last_index + 1)",
            ),
        ),
        hints=REPAIRING_TESTS,
    ),
    Mutant(
        name="lacked-once-lacked-for-ever",
        rule="Who lacked one entry may have the next.",
        reference="B41",
        edits=(Edit(REPAIRING, "                lacking.clear()\n", ""),),
        hints=REPAIRING_TESTS,
    ),
    Mutant(
        name="supplied-across-a-gap",
        rule="A damaged log does not supply what lies before a gap of its own.",
        reference="B41",
        edits=(
            Edit(
                REPAIR,
                "        if any(request.first <= seam <= request.anchor_index for seam in log.seams):\n",
                "        if False:\n",
            ),
        ),
        hints=REPAIR_TESTS,
    ),
    Mutant(
        name="senseless-answer-taken",
        rule="An answer whose entries cannot follow each other, or were not asked for, is not taken.",
        reference="B41",
        edits=(
            Edit(
                REPAIR,
                "        if answer.previous_term is None or not self._makes_sense(request, answer):\n",
                "        if answer.previous_term is None:\n",
            ),
        ),
        hints=REPAIR_TESTS,
    ),
    Mutant(
        name="lost-end-is-no-loss",
        rule="Who lost the end of its log may vote only once it has caught up.",
        reference="B42",
        edits=(Edit(REPAIR, "        if (holes or self._end_lost) and self.term:", "        if holes and self.term:"),),
        hints=REPAIR_TESTS,
    ),
    Mutant(
        name="repaired-log-not-synced",
        rule="The repaired log gets its name once all of it is on the medium.",
        reference="B44",
        edits=(
            Edit(
                REPAIR,
                "                self._write_entries(file, header)\n                file.sync()\n",
                "                self._write_entries(file, header)\n",
            ),
        ),
        hints=REPAIR_TESTS,
    ),
    Mutant(
        name="repaired-folder-not-synced",
        rule="The folder is synced after the repaired log got its name.",
        reference="B44",
        edits=(Edit(REPAIR, "            self._disk.sync_folder(LOG_FOLDER)\n", ""),),
        hints=REPAIR_TESTS,
    ),
    Mutant(
        name="log-kept-behind-a-hole",
        rule="What lies behind an entry that nobody has is given up with it.",
        reference="B45",
        edits=(
            Edit(
                REPAIR,
                "            log.truncate(min(holes) - 1, log.term_at(min(holes) - 1) or 0)\n",
                "            log.truncate(max(holes) - 1, log.term_at(max(holes) - 1) or 0)\n",
            ),
        ),
        hints=REPAIR_TESTS,
    ),
    Mutant(
        name="snapshot-of-another-log",
        rule="Where the snapshot is of another log than the damaged one, the log goes.",
        reference="B46",
        edits=(
            Edit(
                REPAIR, "        elif certain_from <= index and known not in (None, term):\n", "        elif False:\n"
            ),
        ),
        hints=REPAIR_TESTS,
    ),
)
