"""Violations of the rules of snapshots: one moment, whole before it has a name, checked before it is used."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

FILES = "raftkv/snapshot/files.py"
POLICY = "raftkv/snapshot/policy.py"
READING = "raftkv/snapshot/reading.py"
RECORDS = "raftkv/kvstore/records.py"
RESTORING = "raftkv/kvstore/restoring.py"
SENDING = "raftkv/protocols/snapshots.py"
SESSIONS = "raftkv/kvstore/sessions.py"
SNAPSHOTTER = "raftkv/server/snapshotter.py"
STATE_MACHINE = "raftkv/server/statemachine.py"
STORE = "raftkv/kvstore/store.py"
TRANSFERS = "raftkv/server/transfers.py"
WRITING = "raftkv/snapshot/writing.py"

FILE_TESTS = ("tests.snapshot.test_files",)
VIEW_TESTS = ("tests.kvstore.test_snapshotting",)

MUTANTS = (
    Mutant(
        name="snapshot-not-of-one-moment",
        rule="A snapshot shows every record as it was at its moment, whatever is written meanwhile.",
        reference="section 7, B48",
        edits=(
            Edit(
                RECORDS,
                "            if mod_revision <= self._captured_revision and key >= self._frontier:\n"
                "                self._preserved[key] = old\n",
                "",
            ),
        ),
        hints=VIEW_TESTS,
    ),
    Mutant(
        name="snapshot-misses-the-deleted",
        rule="A snapshot shows a record that is deleted while it is taken.",
        reference="section 7, B48",
        edits=(
            Edit(
                RECORDS,
                "        if old[2] <= self._captured_revision and key >= self._frontier:\n"
                "            self._preserved[key] = old\n",
                "        if old[2] <= self._captured_revision and key > self._frontier:\n"
                "            self._preserved[key] = (*old[:3], old[3] + 1, old[4])\n",
            ),
        ),
        hints=VIEW_TESTS,
    ),
    Mutant(
        name="sessions-not-of-one-moment",
        rule="A snapshot shows every session as it was at its moment.",
        reference="section 7, B48, B63",
        edits=(Edit(SESSIONS, "captured[client_id] = session.copy()", "captured[client_id] = session"),),
        hints=VIEW_TESTS,
    ),
    Mutant(
        name="snapshot-without-sessions",
        rule="Sessions are part of a snapshot, or a repeated write is applied again after it was restored.",
        reference="section 8, B63",
        edits=(
            Edit(RESTORING, "            self._sessions.restore(session)\n", "            pass\n"),
            Edit(RESTORING, "        if found != promised:\n", "        if False:\n"),
            Edit(RESTORING, "        if store.digest() != header.digest:\n", "        if False:\n"),
        ),
        hints=VIEW_TESTS,
    ),
    Mutant(
        name="snapshot-forgets-cluster-time",
        rule="Cluster time is part of a snapshot.",
        reference="our design, B34",
        edits=(Edit(STORE, "store._cluster_time_ms = header.cluster_time_ms", "store._cluster_time_ms = 0"),),
        hints=VIEW_TESTS,
    ),
    Mutant(
        name="snapshot-forgets-what-was-applied",
        rule="A restored state knows which entry it includes, and refuses to apply it again.",
        reference="B39",
        edits=(
            Edit(STORE, "        store._applied_index = header.applied_index\n", ""),
            Edit(
                SNAPSHOTTER,
                "        if store.applied_index != meta.index:\n",
                "        if False:\n",
            ),
        ),
        hints=VIEW_TESTS,
    ),
    Mutant(
        name="restored-digest-not-checked",
        rule="A restored state is compared with the digest of its snapshot.",
        reference="our design, B42",
        edits=(Edit(RESTORING, "if store.digest() != header.digest:", "if False:"),),
        hints=VIEW_TESTS,
    ),
    Mutant(
        name="cut-snapshot-accepted",
        rule="A snapshot that breaks off is refused.",
        reference="our design, B42",
        edits=(Edit(RESTORING, "if header is None or not self._ended:", "if header is None:"),),
        hints=VIEW_TESTS,
    ),
    Mutant(
        name="damaged-snapshot-used",
        rule="Every byte of a snapshot is checked before it is used.",
        reference="B42",
        edits=(
            Edit(READING, "        if not frame_checks_out(head, data):\n", "        if False:\n"),
            Edit(READING, "if offset != self._tail_offset or found != self._tail:", "if offset != self._tail_offset:"),
        ),
        hints=FILE_TESTS,
    ),
    Mutant(
        name="newest-snapshot-or-none",
        rule="An unreadable snapshot falls back to the one before it.",
        reference="B45",
        edits=(
            Edit(
                FILES,
                "                self._unreadable(error)\n        return None\n",
                "                self._unreadable(error)\n                break\n        return None\n",
            ),
        ),
        hints=FILE_TESTS,
    ),
    Mutant(
        name="another-clusters-snapshot",
        rule="A snapshot of another cluster is never restored.",
        reference="our design",
        edits=(Edit(FILES, "if reader.info.cluster_id != self._cluster_id:", "if False:"),),
        hints=FILE_TESTS,
    ),
    Mutant(
        name="snapshot-not-synced-before-its-name",
        rule="A snapshot gets its name once it is on the medium.",
        reference="our design, B44",
        edits=(
            Edit(
                WRITING,
                "            self._file.sync()\n            self._file.close()\n        info = verify_file(",
                "            self._file.close()\n        info = verify_file(",
            ),
        ),
        hints=FILE_TESTS,
    ),
    Mutant(
        name="received-snapshot-not-synced",
        rule="A snapshot that was received gets its name once it is on the medium.",
        reference="our design, B44",
        edits=(
            Edit(
                WRITING,
                "            self._file.sync()\n            self._file.close()\n\n    def install",
                "            self._file.close()\n\n    def install",
            ),
        ),
        hints=FILE_TESTS,
    ),
    Mutant(
        name="snapshot-folder-not-synced",
        rule="The folder is synced after a snapshot gets its name, before the log is cut.",
        reference="B44",
        edits=(
            Edit(
                FILES, "        self._sync_folder()\n        self._read_back = info", "        self._read_back = info"
            ),
        ),
        hints=FILE_TESTS,
    ),
    Mutant(
        name="another-snapshot-than-announced",
        rule="A snapshot that arrived is the one that was announced.",
        reference="our design, B42",
        edits=(Edit(WRITING, "            if found != self._announced:\n", "            if False:\n"),),
        hints=FILE_TESTS,
    ),
    Mutant(
        name="piece-at-the-wrong-place",
        rule="A piece of a snapshot is taken only where the last one ended.",
        reference="our design",
        edits=(
            Edit(
                WRITING,
                "if offset != self._offset or offset + len(data) > self._size_bytes:",
                "if offset + len(data) > self._size_bytes:",
            ),
        ),
        hints=FILE_TESTS,
    ),
    Mutant(
        name="snapshot-not-read-back",
        rule="A snapshot is read back before it gets its name, and before older ones go.",
        reference="our design, B42",
        edits=(
            Edit(
                WRITING,
                "        info = verify_file(self._disk, self._temporary, self._name)\n",
                "        info = SnapshotReader(\n"
                "            self._disk.open(self._temporary), path=self._path, name=self._name\n"
                "        ).info\n",
            ),
        ),
        hints=FILE_TESTS,
    ),
    Mutant(
        name="pruned-behind-a-rotten-snapshot",
        rule="No snapshot is removed where the newest has rotted.",
        reference="our design, B42",
        edits=(Edit(FILES, "if removed and not self._is_sound(kept[0]):", "if False:"),),
        hints=FILE_TESTS,
    ),
    Mutant(
        name="log-cut-by-a-rotten-snapshot",
        rule="Where one snapshot alone is kept it is read before the log is cut by it.",
        reference="our design, B42, B50",
        edits=(
            Edit(
                SNAPSHOTTER,
                "self._directory.list_sound if self._is_short else self._directory.list",
                "self._directory.list",
            ),
        ),
        hints=("tests.server.test_relief",),
    ),
    Mutant(
        name="needed-snapshot-pruned",
        rule="The snapshots that are to be kept are kept.",
        reference="our design, B45",
        edits=(Edit(FILES, "if name < kept[-1] and", "if name <= kept[-1] and"),),
        hints=FILE_TESTS,
    ),
    Mutant(
        name="log-cut-behind-the-older-snapshot",
        rule="The log reaches back to the snapshot before the newest, in case that cannot be read.",
        reference="our design, B45",
        edits=(Edit(POLICY, "        index = min(index, previous_snapshot_index)\n", "        pass\n"),),
        hints=("tests.snapshot.test_policy",),
    ),
    Mutant(
        name="log-cut-beyond-the-snapshot",
        rule="The log is cut no further than the newest snapshot reaches.",
        reference="section 7",
        edits=(Edit(POLICY, "index = snapshot_index - trailing_entries", "index = snapshot_index + trailing_entries"),),
        hints=("tests.snapshot.test_policy",),
    ),
    Mutant(
        name="snapshot-ahead-of-the-log",
        rule="A snapshot is taken only of what this node's own disk has.",
        reference="our design, B45",
        edits=(
            Edit(
                SNAPSHOTTER,
                "if self._node.stable_index >= index:",
                "if True:",
            ),
            Edit(
                "raftkv/raft/node.py",
                "if meta_index > min(self.last_applied, log.stable_index):",
                "if False:",
            ),
        ),
        hints=("tests.server.test_snapshotter", "tests.raft.test_bugs"),
    ),
    Mutant(
        name="entries-dropped-while-restoring",
        rule="Entries that are committed while a snapshot is restored are applied after it.",
        reference="B47",
        edits=(Edit(STATE_MACHINE, "            self._backlog.extend(entries)\n", "            pass\n"),),
        hints=("tests.server.test_statemachine",),
    ),
    Mutant(
        name="entries-applied-while-restoring",
        rule="No entry is applied to the old state while a snapshot is restored.",
        reference="B47",
        edits=(
            Edit(
                STATE_MACHINE,
                "            self._backlog.extend(entries)\n            return\n",
                "            pass\n",
            ),
        ),
        hints=("tests.server.test_statemachine",),
    ),
    Mutant(
        name="superseded-restore-wins",
        rule="Of two snapshots that arrive close together the second one counts.",
        reference="B47",
        edits=(
            Edit(STATE_MACHINE, "            superseded.cancel()\n", "            pass\n"),
            Edit(STATE_MACHINE, "        if self._loading is not loading:\n            return\n", ""),
        ),
        hints=("tests.server.test_statemachine",),
    ),
    Mutant(
        name="unwanted-snapshot-taken",
        rule="A snapshot that would bring nothing new is refused at the offer.",
        reference="our design, B46",
        edits=(Edit(TRANSFERS, "        if not self._is_wanted(meta):\n", "        if False:\n"),),
        hints=("tests.server.test_transfers",),
    ),
    Mutant(
        name="rotten-snapshot-offered",
        rule="A snapshot is verified to the byte before it is offered.",
        reference="B42",
        edits=(Edit(FILES, "                reader.verify()\n", "                pass\n"),),
        hints=FILE_TESTS,
    ),
    Mutant(
        name="rotten-snapshot-kept",
        rule="Where the newest snapshot has rotted another one is taken.",
        reference="our design",
        edits=(Edit(SNAPSHOTTER, "        if index < self._node.snapshot_index and not", "        if False and not"),),
        hints=("tests.server.test_snapshotter",),
    ),
    Mutant(
        name="rate-of-snapshots-ignored",
        rule="A snapshot is sent no faster than its rate.",
        reference="our design",
        edits=(Edit(SENDING, "        if wait > 0:\n", "        if False:\n"),),
        hints=("tests.protocols.test_snapshots",),
    ),
)
