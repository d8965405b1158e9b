"""What a native client can do atomically: transactions, one or many; and letting go of the past."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from raftkv.client.model import FenceLike, TransactionResult
from raftkv.client.requests import Compare, Transaction, TransactionOperation
from raftkv.client.rpc import making, telling
from raftkv.client.rpc.asking import Asking
from raftkv.client.rpc.gathering import slices_of_transactions
from raftkv.client.spelling import positive
from raftkv.kvstore import commands


class TransactionCalls(Asking):
    """The methods about transactions, and about the store's history."""

    def transaction(
        self,
        *,
        compare: Sequence[Compare] = (),
        success: Sequence[TransactionOperation] = (),
        failure: Sequence[TransactionOperation] = (),
        lock: FenceLike | None = None,
    ) -> Deferred[TransactionResult]:
        """Carry out one of two lists of operations, atomically, and once, however often it had to be sent.

        :param compare: conditions; without any, they hold.
        :param success: what is done where all of them hold.
        :param failure: what is done where one does not.
        :param lock: a lock without which it is refused.
        :raises raftkv.errors.BadRequest: (by the Deferred) it has more operations than the servers allow, or writes a
            key twice.
        :raises raftkv.errors.TooLarge: (likewise) it has, or reads, more bytes than is allowed.
        :raises raftkv.errors.AnswerNotKept: (likewise) it was carried out, but what it has read was lost on the way.
        """
        whole = Transaction(compare=compare, success=success, failure=failure)
        return self._write(lambda: making.transaction(whole, lock), self._transactions.read)

    def transact_many(
        self, transactions: Iterable[Transaction], *, lock: FenceLike | None = None
    ) -> Deferred[list[TransactionResult]]:
        """Carry out many transactions, for bulk loads; fires with the result of each, in order.

        Each is atomic by itself: they are not applied as one, and where the Deferred fails, with the first error that
        there was, others may have been applied. The time-out of a call counts for each part that travels together.

        :param lock: a lock without which they are refused.
        """
        try:
            made = [making.transaction(whole, lock) for whole in transactions]
        except Exception:
            return fail(Failure())
        return self._gather(slices_of_transactions(made), None, self._transactions.read)

    def compact(self, revision: int) -> Deferred[int]:
        """Let go of what was before a revision; fires with the oldest revision that can be read from then on.

        :raises raftkv.errors.Compacted: (by the Deferred) that was let go already.
        """
        return self._write(lambda: commands.compact(positive("revision", revision)), telling.compacted)

    @property
    def _transactions(self) -> telling.TransactionReader:
        return telling.TransactionReader(lambda: self._pipeline.link.cluster_id)
