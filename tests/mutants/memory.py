"""Violations of the rules about memory: what leaves it, and what is read back from the disk."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

DRIVER = "raftkv/server/driver.py"
LEADERSHIP = "raftkv/raft/leadership.py"
LOADING = "raftkv/persistence/loading.py"
LOG = "raftkv/raft/log.py"
NODE = "raftkv/raft/node.py"
PERSISTENT_LOG = "raftkv/persistence/log.py"
READING = "raftkv/persistence/reading.py"
RECOVERY = "raftkv/raft/recovery.py"
REPLICATION = "raftkv/raft/replication.py"
STATE = "raftkv/raft/state.py"
STATE_MACHINE = "raftkv/server/statemachine.py"

READBACK = ("tests.raft.test_readback",)
READERS = ("tests.persistence.test_reading",)

MUTANTS = (
    Mutant(
        name="memory-let-go-before-its-sync",
        rule="Only what is on our own disk leaves the memory.",
        reference="our design, B4",
        edits=(Edit(LOG, "min(index, self.stable_index) + 1 - self.cached_index", "index + 1 - self.cached_index"),),
        hints=READBACK,
    ),
    Mutant(
        name="memory-let-go-before-commitment",
        rule="What is not committed stays in memory: its size is owed to the bound of what waits.",
        reference="our design",
        edits=(Edit(NODE, "state.log.trim(state.commit_index)", "state.log.trim(state.log.last_index)"),),
        hints=READBACK,
    ),
    Mutant(
        name="memory-never-let-go",
        rule="The log in memory is bounded.",
        reference="our design",
        edits=(Edit(NODE, "        state.log.trim(state.commit_index)\n", ""),),
        hints=READBACK,
    ),
    Mutant(
        name="answer-to-an-earlier-leadership",
        rule="What was read for an earlier leadership is not sent in this one.",
        reference="our design",
        edits=(Edit(REPLICATION, "or progress is None or progress.reading != wanted:", "or progress is None:"),),
        hints=READBACK,
    ),
    Mutant(
        name="two-questions-for-a-peer",
        rule="One portion at a time is read for each peer.",
        reference="our design",
        edits=(Edit(REPLICATION, "        if progress.reading is None:\n", "        if True:\n"),),
        hints=READBACK,
    ),
    Mutant(
        name="read-entries-not-compared",
        rule="What comes back from the disk is compared with the terms of our log.",
        reference="B42",
        edits=(
            Edit(
                STATE,
                "            if (entry.index, entry.term) != (index, self.log.term_at(index)):\n",
                "            if False:\n",
            ),
        ),
        hints=READBACK,
    ),
    Mutant(
        name="compacted-while-read",
        rule="A peer whose next entries were compacted while they were to be read gets the snapshot.",
        reference="section 7",
        edits=(
            Edit(
                REPLICATION,
                "            self._offer_snapshot(wanted.peer, progress)\n            return\n",
                "            return\n",
            ),
        ),
        hints=READBACK,
    ),
    Mutant(
        name="missing-entry-passed-over",
        rule="A committed entry that the disk does not give back stops the node before it is applied.",
        reference="B51",
        edits=(
            Edit(
                STATE,
                "            if not entries:\n                raise",
                "            if False:\n                raise",
            ),
        ),
        hints=READBACK,
    ),
    Mutant(
        name="read-before-a-snapshot-applied-after-it",
        rule="What was read for a state that a snapshot has replaced is not applied to the new one.",
        reference="B47",
        edits=(
            Edit(
                STATE,
                "        elif entries and entries[0].index != start:\n            entries = ()",
                "        elif False:\n            entries = ()",
            ),
            Edit(STATE, "        if wanted.start == self.last_applied + 1:\n", "        if True:\n"),
        ),
        hints=READBACK,
    ),
    Mutant(
        name="read-back-before-a-snapshot-came",
        rule="What has been read back for the state machine is of no use behind a snapshot that came later.",
        reference="our design, B39",
        edits=(Edit(STATE, "        elif entries and entries[0].index != start:\n", "        elif False:\n"),),
        hints=READBACK,
    ),
    Mutant(
        name="configurations-not-loaded",
        rule="The configurations of the whole log are known after a start, whatever of it was loaded.",
        reference="B21",
        edits=(Edit(RECOVERY, "[*(on_disk.configurations if on_disk is not None else ()), *entries]", "[*entries]"),),
        hints=READBACK,
    ),
    Mutant(
        name="replaced-entries-read",
        rule="Entries that a conflict has replaced are never read back.",
        reference="section 5.3",
        edits=(Edit(PERSISTENT_LOG, "        self._map.cut_behind(kept)\n", ""),),
        hints=READERS,
    ),
    Mutant(
        name="read-payload-not-checked",
        rule="What is read back is checked to the byte.",
        reference="B41",
        edits=(Edit(READING, "if not payload_checks_out(data, record, payload):", "if False:"),),
        hints=READERS,
    ),
    Mutant(
        name="removed-while-read-is-an-error",
        rule="A segment that goes while it is about to be read is no error of the disk.",
        reference="our design",
        edits=(Edit(READING, "if self._map.find(stretch.first_index) is None:", "if False:"),),
        hints=READERS,
    ),
    Mutant(
        name="everything-loaded",
        rule="A start loads no more of the log than its bound.",
        reference="our design",
        edits=(Edit(LOADING, "while self._bytes > self._cache_bytes and", "while False and"),),
        hints=READERS,
    ),
    Mutant(
        name="applier-overrun",
        rule="While a snapshot is restored, what is committed behind it stays on the disk.",
        reference="our design",
        edits=(
            Edit(
                DRIVER,
                "self.node.may_apply(not acknowledges_first and not self._applier.is_behind)",
                "self.node.may_apply(not acknowledges_first)",
            ),
        ),
        hints=("tests.server.test_driver",),
    ),
    Mutant(
        name="applier-never-caught-up",
        rule="Once nothing waits behind a restore any more, the entries that were held back come.",
        reference="our design",
        edits=(Edit(STATE_MACHINE, "            self._caught_up()\n", "            pass\n"),),
        hints=("tests.server.test_statemachine",),
    ),
    Mutant(
        name="dies-in-silence",
        rule="A leader whose disk fails lets another lead at once.",
        reference="B50",
        edits=(Edit(DRIVER, "            self._transport.send(words)\n", "            pass\n"),),
        hints=("tests.server.test_driver",),
    ),
    Mutant(
        name="words-of-a-broken-core",
        rule="A node that has broken a rule says nothing more.",
        reference="our design",
        edits=(
            Edit(DRIVER, "may_speak = isinstance(error, StorageError) and self.running", "may_speak = self.running"),
        ),
        hints=("tests.server.test_driver",),
    ),
    Mutant(
        name="leads-on-after-its-last-words",
        rule="Who has asked another to lead because it dies leads no more itself: it counts on no lease.",
        reference="B10",
        edits=(Edit(LEADERSHIP, '        self._step_down("this server cannot go on")\n', ""),),
        hints=("tests.raft.test_diskwatch",),
    ),
)
