"""Violations of what is promised of old revisions, ranges and compaction."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

GHOSTS = "raftkv/kvstore/ghosts.py"
HISTORY = "raftkv/kvstore/history.py"
HOUSEKEEPING = "raftkv/server/housekeeping.py"
RANGES = "raftkv/kvstore/ranges.py"
READING = "raftkv/kvstore/reading.py"
RECORDS = "raftkv/kvstore/records.py"
REWINDING = "raftkv/kvstore/rewinding.py"
STORE = "raftkv/kvstore/store.py"

HISTORY_TESTS = ("tests.kvstore.test_history", "tests.kvstore.test_twin")
HOUSEKEEPING_TESTS = ("tests.server.test_housekeeping",)
SNAPSHOT_TESTS = ("tests.kvstore.test_snapshotting",)

MUTANTS = (
    Mutant(
        name="write-not-in-its-own-revision",
        rule="A revision includes what was written at it.",
        reference="B59",
        edits=(Edit(RECORDS, "            if changed <= revision:\n", "            if changed < revision:\n"),),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="deleted-key-has-no-past",
        rule="A key that was deleted is still there at the revisions before.",
        reference="our design",
        edits=(Edit(RECORDS, "        self.ghosts.bury(key, self.revision + 1)\n", ""),),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="past-ends-at-a-deletion",
        rule="What a key was before it was deleted and made anew can be read.",
        reference="our design",
        edits=(
            Edit(RECORDS, "            before = self.ghosts.unbury(key)\n", "            self.ghosts.unbury(key)\n"),
        ),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="plain-put-forgets-the-deletion",
        rule="A plain put of a key that was deleted knows what was before it, too.",
        reference="our design",
        edits=(
            Edit(
                RECORDS,
                "self.ghosts.unbury(key) if self.ghosts.revisions else None",
                "self.ghosts.unbury(key) and None",
            ),
        ),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="past-range-of-todays-keys",
        rule="A range of the past holds keys that are no more.",
        reference="our design",
        edits=(Edit(RANGES, "    if records.ghosts.count(start, end):\n", "    if False:\n"),),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="count-of-the-past-misses-the-deleted",
        rule="The count of a range of the past is that of its keys then.",
        reference="our design",
        edits=(
            Edit(
                RANGES,
                "present += (records.get_at(key, revision) is not None) - (records.get(key) is not None)",
                "present -= records.get(key) is not None",
            ),
        ),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="own-writes-in-the-past",
        rule="What a transaction reads of the past is without what it has written itself.",
        reference="B33",
        edits=(
            Edit(
                RECORDS,
                "            if changed <= revision:\n",
                "            if changed <= revision or changed > self.revision:\n",
            ),
        ),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="future-revision-read",
        rule="A revision that has not been yet is refused.",
        reference="B58",
        edits=(
            Edit(
                READING,
                "        if revision > self._records.revision:\n            raise FutureRevision",
                "        if False:\n            raise FutureRevision",
            ),
        ),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="compaction-goes-back",
        rule="The compact revision never falls.",
        reference="our design",
        edits=(
            Edit(
                STORE,
                (
                    "        if revision < self._compact_revision:\n"
                    "            return (COMPACTED, self._compact_revision)\n"
                    "        self"
                ),
                "        self",
            ),
        ),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="future-compacted",
        rule="A revision that has not been yet cannot be compacted.",
        reference="our design",
        edits=(
            Edit(
                STORE,
                (
                    "        if revision > self._records.revision:\n"
                    "            return (FUTURE_REVISION, self._records.revision)\n"
                    "        if revision < self"
                ),
                "        if revision < self",
            ),
        ),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="page-backwards-skips-a-key",
        rule="Pages in reverse hold every key once.",
        reference="our design",
        edits=(Edit(RANGES, "found[-1][0] if reverse else key", "key"),),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="page-tells-a-key-twice",
        rule="Pages hold every key once.",
        reference="our design",
        edits=(Edit(RANGES, "found[-1][0] if reverse else key", "found[-1][0]"),),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="folder-told-twice",
        rule="A folder is told once, however many keys it has.",
        reference="our design",
        edits=(Edit(RANGES, "            low = above\n", '            low = key + b"\\0"\n'),),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="change-without-what-was-before",
        rule="A change tells what the key held before.",
        reference="our design",
        edits=(Edit(HISTORY, "before if type(before) is tuple else None", "None"),),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="restored-past-without-the-deleted",
        rule="A restored state knows the keys that are no more.",
        reference="B48",
        edits=(Edit(REWINDING, "                self._ghosts[key] = revision\n", "                pass\n"),),
        hints=SNAPSHOT_TESTS,
    ),
    Mutant(
        name="restored-changes-in-reverse",
        rule="The changes of a restored revision are in their order.",
        reference="B60",
        edits=(Edit(REWINDING, "        slots.reverse()\n", ""),),
        hints=SNAPSHOT_TESTS,
    ),
    Mutant(
        name="snapshot-without-the-compact-revision",
        rule="What is compacted stays so where a snapshot is restored.",
        reference="B48",
        edits=(Edit(STORE, "        store._compact_revision = header.compact_revision\n", ""),),
        hints=SNAPSHOT_TESTS,
    ),
    Mutant(
        name="snapshot-without-the-times",
        rule="When each revision was is part of a snapshot.",
        reference="our design",
        edits=(Edit(STORE, "            marks=self._revision_times.marks(),\n", "            marks=(),\n"),),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="deleted-keys-kept-for-ever",
        rule="A deleted key is forgotten with the revision that deleted it.",
        reference="our design",
        edits=(
            Edit(
                RECORDS,
                "self.history.tidy(limit, self.ghosts.forget)",
                "self.history.tidy(limit, lambda key, revision: None)",
            ),
        ),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="later-deletion-forgotten",
        rule="Only the revision that deleted a key last lets it be forgotten.",
        reference="our design",
        edits=(
            Edit(GHOSTS, "        if self.revisions.get(key) == revision:\n", "        if key in self.revisions:\n"),
        ),
        hints=HISTORY_TESTS,
    ),
    Mutant(
        name="compaction-by-number-off",
        rule="No more revisions are kept than were asked for, about.",
        reference="our design",
        edits=(
            Edit(
                HOUSEKEEPING, "            target = store.revision - self._max_revisions\n", "            target = 0\n"
            ),
        ),
        hints=HOUSEKEEPING_TESTS,
    ),
    Mutant(
        name="compaction-by-size-off",
        rule="No more of the log's bytes are kept as revisions than were asked for, about.",
        reference="our design",
        edits=(
            Edit(
                HOUSEKEEPING,
                "        if self._max_bytes and store.history_bytes > self._max_bytes:\n",
                "        if False:\n",
            ),
        ),
        hints=HOUSEKEEPING_TESTS,
    ),
    Mutant(
        name="compaction-by-age-too-early",
        rule="Revisions are kept for as long as was asked for.",
        reference="our design",
        edits=(
            Edit(
                HOUSEKEEPING,
                "store.revision_at(self._now_ms() - self._max_age_ms)",
                "store.revision_at(self._now_ms())",
            ),
        ),
        hints=HOUSEKEEPING_TESTS,
    ),
    Mutant(
        name="followers-compact",
        rule="Only the leader proposes what is to be compacted.",
        reference="B34",
        edits=(
            Edit(
                HOUSEKEEPING,
                " or not self._may_propose:\n            return\n        oldest",
                " or self._under_way:\n            return\n        oldest",
            ),
        ),
        hints=HOUSEKEEPING_TESTS,
    ),
)
