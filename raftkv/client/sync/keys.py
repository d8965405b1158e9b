"""What a client can do with keys: each method makes an operation, and has the programs of all flavours carry it out."""

# Made from raftkv/client/aio/keys.py by python -m tests.client.flavours; change it there.

from __future__ import annotations

from collections.abc import Sequence

from raftkv.client import operations
from raftkv.client.model import Counter, EventType, FenceLike, LeaseLike, TransactionResult
from raftkv.client.programs.engine import Engine
from raftkv.client.programs.watching import WatchProgram, patience
from raftkv.client.requests import Compare, Transaction, TransactionOperation
from raftkv.client.results import Consistency, Deleted, Record, Written
from raftkv.client.sync.iterating import Watch
from raftkv.client.sync.runtime import run


class KeyCalls:
    """The methods of a client about single keys, transactions, and what was and what comes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # -- one key -----------------------------------------------------------------------------------------------------

    def get(
        self,
        key: str | bytes,
        *,
        consistency: Consistency = "linearizable",
        max_stale: float | None = None,
        revision: int | None = None,
    ) -> str | None:
        """Read a value as text; ``None`` where there is no such key.

        A value that is not UTF-8 fails with :exc:`~raftkv.client.ValueNotText` rather than turn up as another type;
        :meth:`get_bytes` reads any value.

        :param consistency: ``"linearizable"``, ``"lease"``, or ``"stale"`` for what the asked node has at hand.
        :param max_stale: for ``"stale"``: the answer holds everything that was written so many seconds ago.
        :param revision: as it was at this revision.
        """
        return run(
            self._engine, self._engine.optional(lambda: operations.get_text(key, consistency, max_stale, revision))
        )

    def get_bytes(
        self,
        key: str | bytes,
        *,
        consistency: Consistency = "linearizable",
        max_stale: float | None = None,
        revision: int | None = None,
    ) -> bytes | None:
        """Read a value as it is stored; ``None`` where there is no such key. See :meth:`get`."""
        return run(
            self._engine, self._engine.optional(lambda: operations.get_bytes(key, consistency, max_stale, revision))
        )

    def get_record(
        self,
        key: str | bytes,
        *,
        consistency: Consistency = "linearizable",
        max_stale: float | None = None,
        revision: int | None = None,
    ) -> Record | None:
        """Read a value and its revisions; ``None`` where there is no such key. See :meth:`get`."""
        return run(
            self._engine, self._engine.optional(lambda: operations.get_record(key, consistency, max_stale, revision))
        )

    def set(
        self,
        key: str | bytes,
        value: str | bytes,
        *,
        if_mod_revision: int | None = None,
        if_exists: bool = False,
        if_absent: bool = False,
        lease: LeaseLike | None = None,
        ttl: float | None = None,
        lock: FenceLike | None = None,
    ) -> Written:
        """Set a key; done once a majority has it on disk. Applied once, however often it had to be sent.

        :param if_mod_revision: compare-and-set: only if the key's ``mod_revision`` is this one; 0: only if there is
            no such key.
        :param if_exists: only if there is such a key.
        :param if_absent: only if there is no such key.
        :param lease: the lease that the key is to end with: its number, or a :class:`Lease`.
        :param ttl: seconds after which the key is to end, by a lease of its own.
        :param lock: a lock (or a leadership) without which the write is refused.
        :raises raftkv.errors.PreconditionFailed: the condition does not hold.
        :raises raftkv.errors.LeaseNotFound: there is no such lease, or it has ended.
        :raises raftkv.errors.LockNotHeld: the lock is not held, or by somebody else.
        """
        return run(
            self._engine,
            self._engine.call(
                lambda: operations.set_value(
                    key,
                    value,
                    if_mod_revision=if_mod_revision,
                    if_exists=if_exists,
                    if_absent=if_absent,
                    lease=lease,
                    ttl=ttl,
                    lock=lock,
                )
            ),
        )

    def delete(
        self,
        key: str | bytes,
        *,
        if_mod_revision: int | None = None,
        if_exists: bool = False,
        lock: FenceLike | None = None,
    ) -> Deleted:
        """Delete a key; done once a majority has it on disk. A missing key is no error: ``deleted`` is then false.

        :param if_mod_revision: compare-and-delete: only if the key's ``mod_revision`` is this one.
        :param if_exists: only if there is such a key; a missing one is then an error.
        :param lock: a lock without which the delete is refused.
        :raises raftkv.errors.PreconditionFailed: the condition does not hold.
        :raises raftkv.errors.LockNotHeld: the lock is not held, or by somebody else.
        """
        return run(
            self._engine,
            self._engine.call(
                lambda: operations.delete_key(key, if_mod_revision=if_mod_revision, if_exists=if_exists, lock=lock)
            ),
        )

    def increment(self, key: str | bytes, by: int = 1, *, lock: FenceLike | None = None) -> Counter:
        """Add to the decimal number in a value; no key counts as 0.

        :param by: what to add, which may be negative.
        :param lock: a lock without which it is refused.
        :raises raftkv.errors.Conflict: the value is no number, or the sum would not fit into 64 bits.
        """
        return run(self._engine, self._engine.call(lambda: operations.increment(key, by, lock=lock)))

    # -- transactions and history ------------------------------------------------------------------------------------

    def transaction(
        self,
        *,
        compare: Sequence[Compare] = (),
        success: Sequence[TransactionOperation] = (),
        failure: Sequence[TransactionOperation] = (),
        lock: FenceLike | None = None,
    ) -> TransactionResult:
        """Carry out one of two lists of operations, atomically.

        :param compare: conditions; without any, they hold.
        :param success: what is done where all of them hold.
        :param failure: what is done where one does not.
        :param lock: a lock without which it is refused.
        """
        return run(
            self._engine,
            self._engine.call(
                lambda: operations.transaction(
                    Transaction(compare=compare, success=success, failure=failure), lock=lock
                )
            ),
        )

    def compact(self, revision: int) -> int:
        """Let go of what was before a revision; return the oldest revision that can be read from then on.

        :raises raftkv.errors.Compacted: that was let go already.
        """
        return run(self._engine, self._engine.call(lambda: operations.compact(revision)))

    def watch(
        self,
        key: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        from_revision: int | None = None,
        only: EventType | None = None,
        previous: bool = True,
        silence: float = 15.0,
        max_outage: float | None = 60.0,
    ) -> Watch:
        """Watch a key, a prefix or a range (none of them: every key), over as many connections as it takes.

        Every event is told once, in order. It ends when it is closed, or with an error.

        :param from_revision: the first revision to be told; ``None``: what comes once the watch has begun.
        :param only: ``"put"`` or ``"delete"`` for only such events.
        :param previous: whether events bear what was there before.
        :param silence: seconds without any sign of life after which a node is given up for another one.
        :param max_outage: seconds without any stream after which it fails with
            :exc:`raftkv.errors.RequestTimeout`; ``None``: never.
        :raises raftkv.errors.Compacted: (while iterating) events that were not told yet are no longer kept; read
            the range anew.
        :raises raftkv.errors.FutureRevision: (while iterating) the cluster was restored from a backup that is older
            than what was told; read the range anew.
        """
        return Watch(
            self._engine,
            WatchProgram(
                self._engine,
                lambda progress: operations.watch(
                    key=key,
                    prefix=prefix,
                    start=start,
                    end=end,
                    from_revision=from_revision,
                    only=only,
                    previous=previous,
                    progress_seconds=progress,
                ),
                from_revision=from_revision,
                silence_seconds=silence,
                patience_seconds=patience(max_outage),
            ),
        )
