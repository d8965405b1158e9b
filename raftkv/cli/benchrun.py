"""One run of ``raftkv bench``: look, refuse or begin, write a probe, load, delete what was written, tell.

The load itself is a process of its own (:mod:`raftkv.bench.process`); this one watches who leads, reports, and is still
there to clean up when a signal comes. What it says of it all is the view's matter.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Final, NoReturn

import click

from raftkv.bench.process import Begun, Generator, GeneratorFailed
from raftkv.bench.results import LeaderChange, Results
from raftkv.bench.specification import Load
from raftkv.bench.sweeping import sweep
from raftkv.bench.target import LeaderWatch, NoAddress, Target, target_of
from raftkv.cli.benchplan import Plan, size
from raftkv.cli.benchview import View
from raftkv.client import NotReached, UnexpectedAnswer
from raftkv.client.sync import KVClient
from raftkv.errors import Forbidden, NoLeader, RaftKVError, TooLarge

_FILL_OUTSTANDING: Final = 64
_FILL_BYTES: Final = 4 * 1024 * 1024  # of all values under way while the keys are written
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_UNAUTHORISED: Final = (401, 403)
_NOT_FOUND: Final = 404


class _Abandoned(Exception):
    """The user would not wait for the clean-up: a second signal came."""


class Bench:
    """One run.

    :param plan: what it is to do.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._view = View(plan)
        self._results = Results()
        self._generator: Generator | None = None
        self._signals: list[int] = []
        self._is_cut_short = False
        self._began = 0.0

    def run(self) -> int:
        """Do all of it; return the exit status.

        :raises click.ClickException: it cannot be done; what was written until then is deleted.
        """
        plan = self._plan
        with self._asking() as (client, target):
            self._refuse_what_exists(client)
            self._view.introduce(target)
            with self._signals_noted():
                swept = self._load_and_sweep(client, target)
        self._view.finish(target, self._results, deleted=swept, is_interrupted=self._is_cut_short)
        if self._signals:
            return 128 + self._signals[0]
        return 1 if self._results.error_count or (swept is None and not plan.keeps) else 0

    def clean(self) -> int:
        """Only delete what a run has left; return the exit status."""
        with self._asking() as (client, _), self._signals_noted():
            swept = self._sweep(client)
        self._view.cleaned(swept)
        if self._signals:
            return 128 + self._signals[0]
        return 0 if swept is not None else 1

    # -- before ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _asking(self) -> Iterator[tuple[KVClient, Target]]:
        """Find the cluster; give a client that knows all of its members."""
        plan = self._plan
        try:
            with KVClient(plan.addresses, timeout=plan.timeout) as first:
                target = target_of(first.cluster())
            target.address(plan.via)
            with KVClient(plan.urls(target), timeout=plan.timeout) as client:
                yield client, target
        except NoAddress as error:
            raise click.ClickException(f"{error}; another --via may do") from None
        except RaftKVError as error:
            _complain(error, plan.addresses)

    def _refuse_what_exists(self, client: KVClient) -> None:
        plan = self._plan
        prefix = plan.load.prefix
        count = 0 if plan.overwrites else client.count(prefix=prefix)
        if count:
            what = f"{count:,} keys begin with {prefix!r} already" if count > 1 else f"a key begins with {prefix!r}"
            raise click.ClickException(
                f"{what}. Choose another --prefix; or --clean, if a run has left them, deletes what has a name "
                "that a run gives; --overwrite lets this one write over such keys and delete them."
            )

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """Let signals end the load, and not us: there are keys to be deleted."""
        # What is ignored stays so: nohup means it.
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._on_signal) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)
        if self._generator is not None:
            if len(self._signals) == 1:
                self._generator.stop()
            else:
                self._generator.kill()

    # -- the load --------------------------------------------------------------------------------------------------

    def _load_and_sweep(self, client: KVClient, target: Target) -> int | None:
        """Return how many keys were deleted at the end; ``None`` where they are still there."""
        swept: int | None = None
        try:
            self._probe(client)
            if self._plan.load.operation != "put":
                self._fill(target)
            if not self._signals:
                self._measure(target)
        finally:
            self._is_cut_short = bool(self._signals)
            if not self._plan.keeps:
                swept = self._sweep(client)
        return swept

    def _probe(self, client: KVClient) -> None:
        """Write one of the keys, to hear of anything that would make an error of every request."""
        load = self._plan.load
        try:
            client.set(load.key(0), load.value)
        except TooLarge as error:
            # Which of the two it is, the cluster says.
            options = f"--value-bytes {load.value_bytes}, --prefix of {len(load.prefix.encode())} bytes"
            raise click.ClickException(f"{options}: {error}") from None

    def _fill(self, target: Target) -> None:
        """Write every key once, so that it can be read."""
        load = self._plan.load
        outstanding = max(1, min(_FILL_OUTSTANDING, _FILL_BYTES // load.value_bytes))
        filling = replace(
            load,
            generator="native" if self._plan.via == "client" else "closed",
            operation="put",
            rate=0.0,
            outstanding=outstanding,
            connections=min(load.connections, outstanding),
            requests=load.keys,
        )
        self._view.filling(load.keys, size(load.value_bytes))
        errors: Counter[str] = Counter()
        began = time.monotonic()
        with self._running(filling, target) as generator:
            for news in generator.news():
                if not isinstance(news, Begun):
                    errors.update(news.measured.errors)
        if errors and not self._signals:
            told = ", ".join(f"{count:,} {code}" for code, count in errors.most_common())
            raise click.ClickException(f"not all keys could be written before the reading: {told}")
        self._view.filled(time.monotonic() - began)

    def _measure(self, target: Target) -> None:
        results = self._results
        self._began = time.monotonic() + self._plan.load.warmup_seconds
        with self._running(self._plan.load, target) as generator:
            watch = LeaderWatch(self._plan.urls(target), target, lambda now: self._leader_changed(generator, now))
            watch.start()
            try:
                has_begun = False
                for news in generator.news():
                    if isinstance(news, Begun):
                        has_begun = True
                        self._began = time.monotonic()
                    elif has_begun:
                        results.add(news.measured)
                        self._view.progress(results)
            finally:
                watch.stop()

    @contextmanager
    def _running(self, load: Load, target: Target) -> Iterator[Generator]:
        """Run a generator; that it ends early is no error where it was told to."""
        via = self._plan.via
        told = replace(load, addresses=(target.address(via),), others=target.others(via))
        generator = self._generator = Generator(told)
        if self._signals:  # it came before there was anything to be stopped
            generator.stop()
        try:
            yield generator
        except GeneratorFailed as error:
            if not self._signals:
                raise click.ClickException(f"{target.leader} cannot be loaded: {error}") from None
        finally:
            self._generator = None
            generator.close()

    def _leader_changed(self, generator: Generator, target: Target) -> None:
        """Note it, and have the load follow; called in another thread."""
        seconds = time.monotonic() - self._began
        self._results.changes.append(LeaderChange(seconds=seconds, leader=target.leader, term=target.term))
        if self._plan.via != "client":
            try:
                generator.move([target.address(self._plan.via)], target.others(self._plan.via))
            except NoAddress:
                return  # it stays where it is: any node passes on what only the leader can do

    # -- afterwards ------------------------------------------------------------------------------------------------

    def _sweep(self, client: KVClient) -> int | None:
        """Delete the keys of the load; return how many there were, ``None`` where that failed or was given up."""
        known = len(self._signals)

        def deleted(count: int) -> None:
            if len(self._signals) > max(known, 1):
                raise _Abandoned

        prefix = self._plan.load.prefix
        self._view.sweeping()
        try:
            return sweep(client, prefix, deleted)
        except _Abandoned:
            reason = "the clean-up was given up"
        except RaftKVError as error:
            reason = f"the clean-up failed: {error} ({error.code})"
        self._view.complain(f"{reason}; {self._plan.cleaning_command()} deletes what is left")
        return None


def _complain(error: RaftKVError, addresses: Sequence[str]) -> NoReturn:
    """Say what is wrong with the cluster, or with reaching it.

    :param addresses: where it was asked.
    """
    where = " or ".join(addresses)
    if isinstance(error, NoLeader):
        raise click.ClickException(
            f"the cluster has no leader: an election may be under way, or too many of its nodes are down ({error.code})"
        ) from None
    if isinstance(error.__cause__, NotReached):
        raise click.ClickException(
            f"no cluster is reached at {where}: {error.__cause__}; -a takes the HTTP addresses of its nodes"
        ) from None
    if isinstance(error, UnexpectedAnswer) and error.status == _NOT_FOUND:
        raise click.ClickException(f"what answers at {where} is no raftkv: {error}") from None
    if isinstance(error, Forbidden) or (isinstance(error, UnexpectedAnswer) and error.status in _UNAUTHORISED):
        raise click.ClickException(f"the cluster does not let us: {error} ({error.code})") from None
    raise click.ClickException(f"{error} ({error.code}, outcome {error.outcome})") from None
