"""Violations of the rules of the disk: what is synced when, what a crash may tear, what damage may not be cut."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

DIRECTORY = "raftkv/persistence/directory.py"
DISK = "raftkv/persistence/disk.py"
DRIVER = "raftkv/server/driver.py"
FILES = "raftkv/persistence/files.py"
HARD_STATE = "raftkv/persistence/hardstate.py"
LOG = "raftkv/persistence/log.py"
META = "raftkv/persistence/meta.py"
PACE = "raftkv/persistence/pace.py"
REACTOR = "raftkv/daemon/reactor.py"
RECORD = "raftkv/persistence/record.py"
REPAIR = "raftkv/persistence/repair.py"
SEGMENT = "raftkv/persistence/segment.py"
STORAGE = "raftkv/persistence/storage.py"
WORKER = "raftkv/persistence/worker.py"

CRASHES = ("tests.persistence.test_crashes",)
DAMAGE = ("tests.persistence.test_damage", "tests.persistence.test_repair", "tests.persistence.test_offsets")
STORES = ("tests.persistence.test_storage",)

MUTANTS = (
    Mutant(
        name="log-not-synced",
        rule="A batch of the log is reported only once its sync has returned.",
        reference="our design, B4, B52",
        edits=(
            Edit(
                LOG,
                '            step = "fdatasync"\n            file.sync()\n',
                '            step = "fdatasync"\n',
            ),
        ),
        hints=CRASHES,
    ),
    Mutant(
        name="hard-state-not-synced",
        rule="The hard state is on the medium before its write is reported.",
        reference="Figure 2, B1",
        edits=(
            Edit(
                HARD_STATE,
                '        with storage_errors("fdatasync", self._path):\n            self._file.sync()\n',
                "",
            ),
        ),
        hints=CRASHES,
    ),
    Mutant(
        name="hard-state-after-the-entries",
        rule="The hard state goes to the medium before the entries: no entry is there whose term is not.",
        reference="our design, B3",
        edits=(
            Edit(
                STORAGE,
                "        if changed and changed[-1] != hard_state.newest.hard_state:\n"
                "            hard_state.store(changed[-1], log_batch=log.last_batch)\n",
                "",
            ),
            Edit(
                STORAGE,
                "        log.commit()\n        compacted = [",
                "        log.commit()\n"
                "        if changed and changed[-1] != hard_state.newest.hard_state:\n"
                "            hard_state.store(changed[-1], log_batch=log.last_batch)\n"
                "        compacted = [",
            ),
        ),
        hints=CRASHES,
    ),
    Mutant(
        name="first-of-gathered-hard-states",
        rule="Of several hard states that gathered the newest is stored.",
        reference="Figure 2, B1",
        edits=(
            Edit(
                STORAGE,
                "            hard_state.store(changed[-1], log_batch=log.last_batch)\n",
                "            hard_state.store(changed[0], log_batch=log.last_batch)\n",
            ),
        ),
        hints=STORES,
    ),
    Mutant(
        name="reported-when-submitted",
        rule="A write is reported when it is on the medium, not when it is given to the disk.",
        reference="our design, B4",
        edits=(
            Edit(
                STORAGE,
                "        self._submit(write, here=here)\n",
                "        self._submit(write, here=here)\n        self._durable(write.write_id)\n",
            ),
        ),
        hints=STORES,
    ),
    Mutant(
        name="reported-before-the-work",
        rule="The worker reports a batch after its work, not before.",
        reference="our design, B4",
        edits=(
            Edit(
                WORKER,
                "            try:\n                process(items)\n",
                "            self._reactor.callFromThread(self._report_of_thread, items, None, 0.0)\n"
                "            try:\n                process(items)\n",
            ),
        ),
        hints=("tests.persistence.test_worker",),
    ),
    Mutant(
        name="failed-sync-repeated",
        rule="A failed sync is never repeated in the hope that it works.",
        reference="B43",
        edits=(
            Edit(
                LOG,
                '            step = "fdatasync"\n            file.sync()\n',
                '            step = "fdatasync"\n'
                "            try:\n"
                "                file.sync()\n"
                "            except OSError:\n"
                "                file.sync()\n",
            ),
        ),
        hints=(*STORES, "tests.persistence.test_log"),
    ),
    Mutant(
        name="disk-error-ignored",
        rule="An error of the disk stops the node.",
        reference="B43, B49",
        edits=(
            Edit(
                STORAGE,
                "            self._failed(error)\n            return\n        write_id",
                "            pass\n        write_id",
            ),
        ),
        hints=STORES,
    ),
    Mutant(
        name="leader-waits-for-its-disk",
        rule="A leader never waits for its disk: the others' may do without it.",
        reference="thesis 10.2.1",
        edits=(Edit(DRIVER, "may_wait=self.node.role is Role.FOLLOWER", "may_wait=True"),),
        hints=("tests.server.test_driver",),
    ),
    Mutant(
        name="goes-on-after-the-disk-failed",
        rule="Where the disk fails while it is waited for, nothing of that turn is carried out any more.",
        reference="B43",
        edits=(
            Edit(
                DRIVER,
                "            if self.failure is not None:\n                return\n            if ready.write.snapshot",
                "            if ready.write.snapshot",
            ),
        ),
        hints=("tests.server.test_driver",),
    ),
    Mutant(
        name="the-thread-overtaken",
        rule="Nothing is written past what the log's thread was given before.",
        reference="our design, B4",
        edits=(Edit(WORKER, "if here and self._unreported == 0 and", "if here and"),),
        hints=("tests.persistence.test_pace",),
    ),
    Mutant(
        name="error-of-the-caller-forgotten",
        rule="After an error nothing is written, whichever thread met it.",
        reference="B43",
        edits=(
            Edit(
                WORKER,
                "            self._error = raised\n        self._report(",
                "            self._report([item], raised, 0.0)\n            return\n        self._report(",
            ),
        ),
        hints=("tests.persistence.test_pace",),
    ),
    Mutant(
        name="slow-disk-waited-for",
        rule="Only a disk that has been quick is waited for.",
        reference="our design",
        edits=(Edit(PACE, "return self._average_seconds <= self._limit_seconds", "return True"),),
        hints=("tests.persistence.test_pace",),
    ),
    Mutant(
        name="segment-waited-for",
        rule="A write that needs another segment of the log is the thread's.",
        reference="our design",
        edits=(Edit(STORAGE, " and 2 * size_bytes < self.room_bytes()", ""),),
        hints=("tests.persistence.test_storage",),
    ),
    Mutant(
        name="term-waited-for",
        rule="A write that is more than an append is the thread's.",
        reference="our design",
        edits=(Edit(STORAGE, "here = may_wait and write.only_appends and", "here = may_wait and"),),
        hints=("tests.persistence.test_storage",),
    ),
    Mutant(
        name="applies-before-acknowledging",
        rule="A follower acknowledges before it applies.",
        reference="our design",
        edits=(Edit(DRIVER, "self.node.role is Role.FOLLOWER and self.node.has_unwritten", "False"),),
        hints=("tests.server.test_driver",),
    ),
    Mutant(
        name="left-to-the-next-message",
        rule="What a follower did not apply while it wrote it applies once its disk is done.",
        reference="our design",
        edits=(
            Edit(
                DRIVER,
                "            self.node.may_apply(not self._applier.is_behind)\n        except",
                "        except",
            ),
        ),
        hints=("tests.server.test_driver",),
    ),
    Mutant(
        name="quick-disk-overruns-the-applier",
        rule="A disk that is done brings no entries to a state machine that is behind.",
        reference="our design, B47",
        edits=(
            Edit(
                DRIVER,
                "            self.node.may_apply(not self._applier.is_behind)\n        except",
                "            self.node.may_apply(True)\n        except",
            ),
        ),
        hints=("tests.server.test_driver",),
    ),
    Mutant(
        name="large-write-waited-for",
        rule="However quick the disk is, what takes long to write is the thread's.",
        reference="our design",
        edits=(
            Edit(
                STORAGE,
                "min(_WAITED_FOR_BYTES, self._settings.max_batch_bytes // 2)",
                "self._settings.max_batch_bytes // 2",
            ),
        ),
        hints=STORES,
    ),
    Mutant(
        name="room-never-given-back",
        rule="The room that a write was promised is its own until it is written, and counts once.",
        reference="our design",
        edits=(
            Edit(
                STORAGE,
                "                self._queued_bytes -= self._with_segments(item.entries, bytes_of(item.entries))\n",
                "",
            ),
        ),
        hints=STORES,
    ),
    Mutant(
        name="files-left-open",
        rule="A storage that has stopped has no file open.",
        reference="our design",
        edits=(Edit(STORAGE, "stopped.addCallback(self._close_files)", "stopped.addCallback(lambda _: None)"),),
        hints=STORES,
    ),
    Mutant(
        name="other-errors-of-the-caller",
        rule="Whatever the error is, nothing is written after it.",
        reference="B43",
        edits=(
            Edit(
                WORKER,
                "        except BaseException as raised:  # reported, as the",
                "        except OSError as raised:  # reported, as the",
            ),
        ),
        hints=("tests.persistence.test_pace",),
    ),
    Mutant(
        name="timer-falls-due-unseen",
        rule="A timer is called when its time has come, though nothing else happens.",
        reference="our design",
        edits=(Edit(REACTOR, "            or (timers and timers[0].time <= self.seconds())\n", ""),),
        hints=("tests.daemon.test_reactor",),
    ),
    Mutant(
        name="stop-of-the-reactor-unseen",
        rule="A reactor that is stopped begins at once to end.",
        reference="our design",
        edits=(Edit(REACTOR, "            or self._justStopped\n", ""),),
        hints=("tests.daemon.test_reactor",),
    ),
    Mutant(
        name="one-slot-of-hard-state",
        rule="The hard state is written to two slots in turn, so that a torn write leaves the newer one whole.",
        reference="our design, B1",
        edits=(Edit(HARD_STATE, "slot.generation % 2 * SLOT_STRIDE", "0 * SLOT_STRIDE"),),
        hints=CRASHES,
    ),
    Mutant(
        name="older-slot-of-hard-state",
        rule="The newest slot of the hard state that can be read counts.",
        reference="our design, B1",
        edits=(Edit(HARD_STATE, "return max(slots,", "return min(slots,"),),
        hints=STORES,
    ),
    Mutant(
        name="hard-state-checksum-ignored",
        rule="A slot of the hard state counts only if its checksum holds.",
        reference="our design, B1",
        edits=(
            Edit(
                HARD_STATE,
                "if google_crc32c.extend(google_crc32c.value(fields), vote) != checksum:",
                "if False:",
            ),
        ),
        hints=DAMAGE,
    ),
    Mutant(
        name="one-copy-in-a-slot",
        rule="Each slot is written twice, so that a flipped bit spoils a copy and not the vote.",
        reference="our design, B1",
        edits=(Edit(HARD_STATE, "encode_slot(slot) * 2)", "encode_slot(slot))"),),
        hints=DAMAGE,
    ),
    Mutant(
        name="torn-tail-not-cut",
        rule="A torn end of the log is overwritten with zeros before anything is written there.",
        reference="B41",
        edits=(Edit(LOG, "last_batch + bytes(stop - end.offset))", "last_batch)"),),
        hints=CRASHES,
    ),
    Mutant(
        name="cut-believed-after-a-failed-sync",
        rule="What an earlier start could not cut of a torn batch is overwritten too, though it reads as zeros.",
        reference="our design, B43",
        edits=(Edit(LOG, "last_batch + bytes(stop - end.offset))", "last_batch + bytes(end.torn_bytes))"),),
        hints=DAMAGE,
    ),
    Mutant(
        name="end-believed-after-a-failed-sync",
        rule="The end of the log, of which no sync is known to have returned, is written again before it is relied on.",
        reference="our design, B43",
        edits=(Edit(LOG, 'b"" if end.next_batch - 1 <= durable_batch else', 'b"" if True else'),),
        hints=CRASHES,
    ),
    Mutant(
        name="torn-tail-refused",
        rule="A torn end of the log is cut, not refused.",
        reference="B41",
        edits=(Edit(SEGMENT, "if not is_torn(data, offset, salt):", "if True:"),),
        hints=CRASHES,
    ),
    Mutant(
        name="damage-in-the-middle-cut",
        rule="Damage before the end of the log is never cut.",
        reference="B41, B42",
        edits=(
            Edit(
                SEGMENT,
                "    _refuse_damage(data, offset=offset, batch=batch, previous=previous, path=path, salt=salt)\n",
                "",
            ),
        ),
        hints=DAMAGE,
    ),
    Mutant(
        name="damaged-end-cut",
        rule="A damaged record of the last batch, which had been synced, is not cut.",
        reference="B41",
        edits=(Edit(SEGMENT, "if not is_torn(data, offset, salt):", "if False:"),),
        hints=DAMAGE,
    ),
    Mutant(
        name="torn-segment-before-the-newest",
        rule="Only the newest segment may end torn.",
        reference="B41",
        edits=(Edit(SEGMENT, "    if not is_newest:\n", "    if False:\n"),),
        hints=DAMAGE,
        survives_because="the segment that follows names the last record before it, so that what is missing is refused "
        "all the same; this check only says earlier, and nearer to the place, what is wrong.",
    ),
    Mutant(
        name="chain-of-checksums-ignored",
        rule="Each record names the one before it, so that a missing block is noticed.",
        reference="our design, B41",
        edits=(
            Edit(
                SEGMENT,
                "if record is None or record.batch != batch or record.previous != previous:",
                "if record is None or record.batch != batch:",
            ),
        ),
        hints=DAMAGE,
    ),
    Mutant(
        name="missing-segment-not-noticed",
        rule="Each segment names the last record of the one before it.",
        reference="our design, B41",
        edits=(
            Edit(
                LOG,
                "        if end is not None and (\n            header.sequence",
                "        if False and (\n            header.sequence",
            ),
            Edit(
                LOG,
                "elif (header.first_index, header.previous_term) != (",
                "elif False and (header.first_index, header.previous_term) != (",
            ),
        ),
        hints=DAMAGE,
    ),
    Mutant(
        name="payload-checksum-ignored",
        rule="A payload is read only if its checksum holds.",
        reference="our design, B41",
        edits=(Edit(RECORD, "and google_crc32c.value(payload) == record.payload_checksum", "and True"),),
        hints=DAMAGE,
    ),
    Mutant(
        name="header-checksum-ignored",
        rule="A record's header is read only if its checksum holds.",
        reference="our design, B41",
        edits=(
            Edit(
                RECORD,
                "if google_crc32c.extend(salt, data[start : start + _CHECKED_BYTES]) != checksum:",
                "if False:",
            ),
        ),
        hints=DAMAGE,
    ),
    Mutant(
        name="checksums-without-salt",
        rule="A record in a client's value cannot pass for one of the log.",
        reference="our design",
        edits=(
            Edit(
                SEGMENT,
                "    salt: int = google_crc32c.value(identity)\n    return salt\n",
                "    return 0\n",
            ),
        ),
        hints=DAMAGE,
    ),
    Mutant(
        name="natural-zeros-not-marked",
        rule="Payloads that hold zero sectors are marked, or damage in them would pass for a torn write.",
        reference="our design, B41",
        edits=(Edit(RECORD, "if length and zero_parts(payload, position + HEADER_BYTES):", "if False:"),),
        hints=DAMAGE,
    ),
    Mutant(
        name="lone-bit-taken-for-torn",
        rule="The only bit of a sector that is not zero may flip: that is damage, not a write that a crash tore.",
        reference="our design, B41",
        edits=(Edit(RECORD, "and not _lacks_one_bit(data, record, *zeros[0]))", "and True)"),),
        hints=DAMAGE,
    ),
    Mutant(
        name="seam-believed",
        rule="What came before a gap was part of the log only if a member that holds what comes behind says so.",
        reference="our design, B41",
        edits=(
            Edit(
                REPAIR,
                "        if log.term_at(before) != answer.previous_term:\n",
                "        if False:\n",
            ),
        ),
        hints=DAMAGE,
    ),
    Mutant(
        name="supplied-entry-not-checked",
        rule="An entry that another member supplies is taken only if it has the checksum of the one that is missing.",
        reference="our design, B41",
        edits=(Edit(REPAIR, "not self._is_missing_one(answer.entries[0])", "False"),),
        hints=DAMAGE,
    ),
    Mutant(
        name="loss-without-a-new-term",
        rule="Who gives up entries goes on in a later term, so that no leader counts on what it had acknowledged.",
        reference="our design, B42",
        edits=(Edit(REPAIR, "file.store(HardState(term=lost_term + 1)", "file.store(file.newest.hard_state"),),
        hints=DAMAGE,
    ),
    Mutant(
        name="loss-forgotten-by-the-next-segment",
        rule="That entries are missing is remembered until an entry of a later term is in the log.",
        reference="our design, B42",
        edits=(Edit(LOG, "lost_term=self.lost_term if self._written_term <= self.lost_term else 0,", "lost_term=0,"),),
        hints=DAMAGE,
    ),
    Mutant(
        name="void-segments-kept",
        rule="A log that was written anew begins there; what damaged segments held before does not count.",
        reference="our design, B41",
        edits=(Edit(LOG, "            if begins_log(sector):\n", "            if False:\n"),),
        hints=DAMAGE,
    ),
    Mutant(
        name="another-nodes-segment",
        rule="A segment of another node, or of an earlier life, is refused.",
        reference="our design, B24",
        edits=(Edit(LOG, "if header.identity != self._identity:", "if False:"),),
        hints=DAMAGE,
    ),
    Mutant(
        name="conflict-not-recorded",
        rule="Entries that are replaced are made void on disk first.",
        reference="section 5.3",
        edits=(
            Edit(
                LOG, '            self._staged.append(_Staged(RecordType.TRUNCATE, first - 1, kept_term, 0, b""))\n', ""
            ),
        ),
        hints=("tests.persistence.test_log",),
    ),
    Mutant(
        name="snapshot-not-recorded",
        rule="The log on disk begins anew behind an installed snapshot that it does not hold.",
        reference="section 7, B45",
        edits=(Edit(LOG, '        self._staged.append(_Staged(RecordType.RESET, index, term, 0, b""))\n', ""),),
        hints=("tests.persistence.test_log",),
    ),
    Mutant(
        name="snapshot-drops-newer-entries-on-disk",
        rule="The log on disk keeps what follows an installed snapshot whose last entry it holds.",
        reference="Figure 13, B46",
        edits=(
            Edit(LOG, "if self.term_at(index) == term or index <= self.base_index:", "if index <= self.base_index:"),
        ),
        hints=("tests.persistence.test_log",),
    ),
    Mutant(
        name="live-segments-removed",
        rule="A segment goes only once all its entries are covered.",
        reference="section 7, B45",
        edits=(
            Edit(
                LOG,
                "while len(self._segments) > 1 and self._segments[0].last_index <= self._compacted_index:",
                "while len(self._segments) > 1:",
            ),
        ),
        hints=("tests.persistence.test_log",),
    ),
    Mutant(
        name="segments-removed-out-of-order",
        rule="Segments go oldest first, each removal safe on the medium before the next: a crash leaves no gap.",
        reference="our design, B45",
        edits=(
            Edit(
                LOG,
                "                self._disk.remove(file)\n                self._disk.sync_folder(LOG_FOLDER)\n",
                "                self._disk.remove(file)\n",
            ),
        ),
        hints=CRASHES,
    ),
    Mutant(
        name="segment-not-synced-before-its-name",
        rule="A segment gets its name once its header is on the medium.",
        reference="our design, B44",
        edits=(
            Edit(
                LOG,
                "        file.sync()\n        disk.rename(name + TEMPORARY_SUFFIX, name)\n",
                "        disk.rename(name + TEMPORARY_SUFFIX, name)\n",
            ),
        ),
        hints=CRASHES,
    ),
    Mutant(
        name="segment-folder-not-synced",
        rule="The folder is synced after a segment gets its name, before anything is written to it.",
        reference="B44",
        edits=(
            Edit(
                LOG,
                "        disk.rename(name + TEMPORARY_SUFFIX, name)\n        disk.sync_folder(LOG_FOLDER)\n",
                "        disk.rename(name + TEMPORARY_SUFFIX, name)\n",
            ),
        ),
        hints=CRASHES,
    ),
    Mutant(
        name="file-not-synced-before-its-name",
        rule="A small file gets its name once its content is on the medium.",
        reference="B44",
        edits=(
            Edit(
                FILES,
                "            file.sync()\n    finally:\n",
                "            pass\n    finally:\n",
            ),
        ),
        hints=("tests.persistence.test_directory", *CRASHES),
    ),
    Mutant(
        name="folder-not-synced-after-rename",
        rule="The folder is synced after a rename.",
        reference="B44",
        edits=(Edit(FILES, "        disk.sync_folder(os.path.dirname(name))\n", ""),),
        hints=("tests.persistence.test_directory", *CRASHES),
    ),
    Mutant(
        name="meta-first",
        rule="The file that says whose a directory is comes last, when all the rest is there.",
        reference="B44",
        edits=(
            Edit(
                DIRECTORY,
                "    create_hard_state(disk)\n",
                "    store_meta(disk, meta)\n    create_hard_state(disk)\n",
            ),
        ),
        hints=("tests.persistence.test_directory",),
    ),
    Mutant(
        name="data-without-meta-taken-for-new",
        rule="A directory that holds data but not whose is never taken for a new one.",
        reference="B24, B44",
        edits=(Edit(DIRECTORY, "    _refuse_data_without_meta(disk)\n", ""),),
        hints=("tests.persistence.test_directory",),
    ),
    Mutant(
        name="another-nodes-directory",
        rule="A directory that belongs to another node is refused.",
        reference="B24",
        edits=(Edit(META, "    if meta.node_id != node_id:\n", "    if False:\n"),),
        hints=("tests.persistence.test_directory",),
    ),
    Mutant(
        name="no-lock",
        rule="A second process is kept out of the data directory.",
        reference="our design",
        edits=(Edit(DISK, "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"),),
        hints=("tests.persistence.test_disk",),
    ),
    Mutant(
        name="lost-end-not-noticed",
        rule="A log that ends before a batch that is known to have been written is refused.",
        reference="our design, B41",
        edits=(Edit(STORAGE, "if newest.log_batch > log.last_batch:", "if False:"),),
        hints=(*STORES, *DAMAGE),
    ),
    Mutant(
        name="older-hard-state-accepted",
        rule="A hard state older than the log is refused.",
        reference="B3",
        edits=(Edit(STORAGE, "if last_term > newest.hard_state.term:", "if False:"),),
        hints=(*STORES, *DAMAGE),
    ),
    Mutant(
        name="log-behind-no-snapshot",
        rule="A log that begins behind an entry that no readable snapshot includes is refused.",
        reference="B45",
        edits=(
            Edit(STORAGE, "            if log.base_index > 0:\n", "            if False:\n"),
            Edit(STORAGE, "        if log.base_index > snapshot.index or (", "        if False and ("),
        ),
        hints=(*STORES, *DAMAGE),
    ),
    Mutant(
        name="term-of-the-snapshot-forgotten",
        rule="A snapshot of a later term than the hard state raises that at the start.",
        reference="B3, B45",
        edits=(Edit(STORAGE, "        if snapshot.term > current.term:\n", "        if False:\n"),),
        hints=STORES,
    ),
)
