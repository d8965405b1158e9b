"""Violations of the rules of backups, of clusters made of them, and of archives."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

ARCHIVE = "raftkv/snapshot/archive.py"
ARCHIVING = "raftkv/server/archiving.py"
BACKUPS = "raftkv/server/backups.py"
BACKUP_FILE = "raftkv/server/backupfile.py"
FILES = "raftkv/snapshot/files.py"
REPLAY = "raftkv/server/replay.py"
RESTORATION = "raftkv/server/restoration.py"
ROTA = "raftkv/server/rota.py"
STORE = "raftkv/kvstore/store.py"

ARCHIVING_TESTS = ("tests.server.test_archiving",)
ANEW_TESTS = ("tests.kvstore.test_begin_anew",)
BACKUP_TESTS = ("tests.server.test_backups",)
COMMAND_TESTS = ("tests.cli.test_snapshot",)
RESTORING_TESTS = ("tests.server.test_restoration",)
ROTA_TESTS = ("tests.server.test_rota",)

MUTANTS = (
    Mutant(
        name="backup-without-a-barrier",
        rule="A backup holds everything that was acknowledged before it was asked for.",
        reference="our design",
        edits=(Edit(BACKUPS, "        await self._until_readable(consistency)\n", ""),),
        hints=("tests.simulation.test_backups", *BACKUP_TESTS),
    ),
    Mutant(
        name="backup-of-a-wrong-state",
        rule="A state that is known to be wrong is given away by nobody.",
        reference="our design",
        edits=(Edit(BACKUPS, "if reader is None or not self._may_give():", "if reader is None:"),),
        hints=BACKUP_TESTS,
    ),
    Mutant(
        name="rotten-snapshot-told-again",
        rule="A snapshot is told in place of a new one only once it has been looked through.",
        reference="our design",
        edits=(Edit(BACKUPS, "self._run(self._directory.newest)", "self._run(lambda: self._directory.list()[0])"),),
        hints=BACKUP_TESTS,
    ),
    Mutant(
        name="streamed-snapshot-pruned",
        rule="A snapshot that is being fetched is not removed.",
        reference="our design",
        edits=(
            Edit(FILES, "            self._pinned[reader.info.name] += 1\n", "            pass\n"),
            Edit(FILES, "        self._pinned[name] -= 1\n        if not self._pinned[name]:\n", "        if False:\n"),
        ),
        hints=BACKUP_TESTS,
    ),
    Mutant(
        name="pin-taken-off-too-early",
        rule="A snapshot that several fetch stays until the last of them has it.",
        reference="our design",
        edits=(
            Edit(FILES, "        if not self._pinned[name]:\n            del", "        if True:\n            del"),
        ),
        hints=BACKUP_TESTS,
    ),
    Mutant(
        name="download-not-checked",
        rule="A backup gets its name only if what has arrived is what was sent.",
        reference="our design",
        edits=(
            Edit(
                BACKUP_FILE,
                "if (tail.digest.hex(), tail.digest) != (digest, self._digest.digest()):",
                "if tail.digest.hex() != digest:",
            ),
        ),
        hints=COMMAND_TESTS,
    ),
    Mutant(
        name="revision-goes-on",
        rule="A restored cluster begins at a revision that the old one never had.",
        reference="B61",
        edits=(Edit(STORE, "records.begin_anew(records.revision + margin)", "records.begin_anew(records.revision)"),),
        hints=ANEW_TESTS,
    ),
    Mutant(
        name="old-revisions-not-compacted",
        rule="What was before a restored cluster counts as compacted.",
        reference="B61",
        edits=(
            Edit(
                STORE,
                "        self._compact_revision = records.revision\n        self._revision_times",
                "        self._revision_times",
            ),
        ),
        hints=ANEW_TESTS,
    ),
    Mutant(
        name="lease-numbers-used-again",
        rule="No lease of a restored cluster has the number of one that the old cluster gave out after the backup.",
        reference="our design",
        edits=(Edit(STORE, "        self._tenures.last_number += margin\n", ""),),
        hints=ANEW_TESTS,
    ),
    Mutant(
        name="cluster-id-of-the-peers-alone",
        rule="Nodes that have restored different states are not one cluster.",
        reference="our design",
        edits=(Edit(RESTORATION, "{state}{token!r}\\n{peers}", "{token!r}\\n{peers}"),),
        hints=RESTORING_TESTS,
    ),
    Mutant(
        name="token-ignored",
        rule="A token makes another cluster of the same backup.",
        reference="our design",
        edits=(Edit(RESTORATION, "{state}{token!r}\\n{peers}", "{state}{peers}"),),
        hints=RESTORING_TESTS,
    ),
    Mutant(
        name="restored-over-data",
        rule="A backup is restored into an empty directory only.",
        reference="our design",
        edits=(
            Edit(
                RESTORATION,
                "    if names:\n        raise ConfigurationError(",
                "    if False:\n        raise ConfigurationError(",
            ),
        ),
        hints=(*RESTORING_TESTS, *COMMAND_TESTS),
    ),
    Mutant(
        name="meta-before-the-snapshot",
        rule="The file that says whose directory it is comes last.",
        reference="B44",
        edits=(
            Edit(
                RESTORATION,
                "        info = _write(disk, meta, replaces, rebuilt)\n"
                "        complete_directory(disk, meta, settings)\n",
                "        complete_directory(disk, meta, settings)\n"
                "        info = _write(disk, meta, replaces, rebuilt)\n",
            ),
        ),
        hints=RESTORING_TESTS,
    ),
    Mutant(
        name="gap-replayed-over",
        rule="A replay refuses entries that are missing.",
        reference="our design",
        edits=(Edit(REPLAY, "        if later is not None:\n", "        if False:\n"),),
        hints=RESTORING_TESTS,
    ),
    Mutant(
        name="damage-replayed-over",
        rule="A replay refuses a damaged file that nothing replaces.",
        reference="our design",
        edits=(
            Edit(
                REPLAY,
                "            if first <= wanted <= last:\n                raise error\n",
                "            if first <= wanted <= last:\n                return None\n",
            ),
        ),
        hints=RESTORING_TESTS,
    ),
    Mutant(
        name="terms-not-chained",
        rule="A replay refuses entries of another history.",
        reference="section 5.3",
        edits=(Edit(REPLAY, "        if known != found:\n", "        if False:\n"),),
        hints=RESTORING_TESTS,
    ),
    Mutant(
        name="file-not-read-to-its-end",
        rule="A file of an archive is checked to its end before its first entry is used.",
        reference="our design",
        edits=(
            Edit(
                REPLAY,
                "            for _ in reader.entries():\n                pass\n        except CorruptData as error:",
                "            pass\n        except CorruptData as error:",
            ),
        ),
        hints=RESTORING_TESTS,
    ),
    Mutant(
        name="later-than-asked-for",
        rule="A replay up to a time leaves out what was written later.",
        reference="our design",
        edits=(
            Edit(
                REPLAY,
                "if target.time_ms is not None and made_ms > target.time_ms:\n                break",
                "if target.time_ms is not None and made_ms > target.time_ms + 999:\n                break",
            ),
        ),
        hints=RESTORING_TESTS,
    ),
    Mutant(
        name="snapshot-of-unknown-time",
        rule="A snapshot of which nothing tells that it is early enough is not taken for it.",
        reference="our design",
        edits=(
            Edit(
                REPLAY,
                "    is_known_to_follow = target.time_ms is None or not rebuilt.base\n",
                "    is_known_to_follow = True\n",
            ),
        ),
        hints=RESTORING_TESTS,
    ),
    Mutant(
        name="revision-overshot",
        rule="A replay up to a revision stops behind the command that takes it.",
        reference="our design",
        edits=(Edit(STORE, "                if self.revision >= last_revision:\n                    break\n", ""),),
        hints=(*ANEW_TESTS, *RESTORING_TESTS),
    ),
    Mutant(
        name="uncommitted-entries-archived",
        rule="Only what is committed is archived.",
        reference="our design",
        edits=(
            Edit(
                ARCHIVING,
                "return min(self._node.commit_index, self._node.stable_index)",
                "return self._node.stable_index",
            ),
        ),
        hints=ARCHIVING_TESTS,
    ),
    Mutant(
        name="log-does-not-wait",
        rule="The log is not compacted in front of the archive.",
        reference="our design",
        edits=(
            Edit(
                ARCHIVING,
                "        self._holds_back = True\n        return held\n",
                "        self._holds_back = True\n        return index\n",
            ),
        ),
        hints=ARCHIVING_TESTS,
    ),
    Mutant(
        name="log-waits-for-ever",
        rule="The log waits for the archive up to a bound.",
        reference="our design",
        edits=(Edit(ARCHIVING, "if is_too_much or self._node.disk_lacks_room:", "if self._node.disk_lacks_room:"),),
        hints=ARCHIVING_TESTS,
    ),
    Mutant(
        name="archive-made-where-nothing-is-mounted",
        rule="The directory of the archive is made by its operator.",
        reference="our design",
        edits=(Edit(ARCHIVE, '        if not self.disk.exists(""):\n', "        if False:\n"),),
        hints=ARCHIVING_TESTS,
    ),
    Mutant(
        name="gap-without-a-base",
        rule="What is archived behind a gap comes with a snapshot of what is missing.",
        reference="our design",
        edits=(
            Edit(
                ARCHIVING,
                "            self._begin_behind(base_index)\n            self._needs_base = True\n",
                "            self._begin_behind(base_index)\n",
            ),
        ),
        hints=ARCHIVING_TESTS,
    ),
    Mutant(
        name="archive-named-before-it-is-safe",
        rule="A file of the archive gets its name once it is on the medium.",
        reference="B44",
        edits=(
            Edit(ARCHIVE, "            self._file.sync()\n        name = fmt", "            pass\n        name = fmt"),
        ),
        hints=ARCHIVING_TESTS,
    ),
    Mutant(
        name="snapshots-at-once",
        rule="The members take their snapshots one after the other.",
        reference="our design",
        edits=(
            Edit(ROTA, "            return False\n        was_due", "            pass\n        was_due"),
            Edit(ROTA, "        return max(wait, _SHORTEST_WAIT * interval)", "        return interval"),
        ),
        hints=ROTA_TESTS,
    ),
    Mutant(
        name="leader-does-not-wait",
        rule="The leader takes its snapshot last.",
        reference="our design",
        edits=(Edit(ROTA, "return is_due and (was_due or self._node.leader != self._node.node_id)", "return is_due"),),
        hints=ROTA_TESTS,
    ),
)
