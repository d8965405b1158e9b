"""``python -m raftkv.testing``: simulate many seeds, over several cores, say which ones fail, and make those small."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from raftkv.testing.backupstory import run_backup_seed
from raftkv.testing.excerpt import Excerpt
from raftkv.testing.outcome import Outcome
from raftkv.testing.shrinking import Shrunk, shrink
from raftkv.testing.simulation import run_seed
from raftkv.testing.tally import Tally, describe

Story = Callable[..., Outcome]

_PROGRESS_SECONDS = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    :return: the exit status: 1 where a seed failed.
    """
    options = _parse(arguments)
    seeds = range(options.start, options.start + options.seeds)
    excerpt = Excerpt(without=options.without, clients=options.clients, seconds=options.until)
    tell = run_backup_seed if options.backups else run_seed
    if options.trace:
        return _tell(seeds, excerpt, tell)
    began = time.monotonic()
    tally = _run_all(seeds, excerpt, options.jobs or os.cpu_count() or 1, tell)
    shrunk = _shrink_all(tally.failed[: options.shrink] if excerpt == Excerpt() else [], tell)
    summary = tally.summary(time.monotonic() - began, shrunk)
    print(json.dumps(summary, indent=2) if options.json else describe(summary))
    return 1 if summary["failures"] else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m raftkv.testing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds (default: 200)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side, 0 for all cores (default: 1)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--trace", action="store_true", help="print every line of the stories, one after the other")
    parser.add_argument("--backups", action="store_true", help="fetch backups, and archive the logs, in each story")
    parser.add_argument("--shrink", type=int, default=5, help="how many failing seeds to make small (default: 5)")
    parser.add_argument("--without", type=_numbers, default=frozenset(), help="leave out these: 2,5,1006")
    parser.add_argument("--clients", type=int, help="let at most so many clients work")
    parser.add_argument("--until", type=float, help="end the faults after so many simulated seconds")
    return parser.parse_args(arguments)


def _numbers(text: str) -> frozenset[int]:
    return frozenset(int(number) for number in text.split(","))


def _run_all(seeds: range, excerpt: Excerpt, jobs: int, story: Story) -> Tally:
    """Tell all the stories; failures and the rate are shown on the way."""
    tally = Tally()
    began = last_report = time.monotonic()
    for outcome in _run(seeds, excerpt, jobs, story):
        tally.add(outcome)
        if outcome.failure:
            _say(f"seed {outcome.seed} failed: {outcome.failure}")
        if time.monotonic() - last_report >= _PROGRESS_SECONDS:
            last_report = time.monotonic()
            rate = len(tally) / (last_report - began)
            left = (len(seeds) - len(tally)) / rate
            _say(f"{len(tally)} of {len(seeds)} seeds, {rate:.1f} a second, {left:.0f} seconds left")
    return tally


def _run(seeds: Iterable[int], excerpt: Excerpt, jobs: int, story: Story) -> Iterator[Outcome]:
    tell = partial(story, excerpt=excerpt)
    if jobs <= 1:
        yield from map(tell, seeds)
        return
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        yield from pool.map(tell, seeds, chunksize=5)


def _tell_part(story: Story, seed: int, excerpt: Excerpt) -> Outcome:
    return story(seed, excerpt=excerpt)


def _shrink_all(failed: Iterable[Outcome], story: Story) -> list[Shrunk]:
    shrunk = []
    for outcome in failed:
        _say(f"making the story of seed {outcome.seed} small")
        shrunk.append(shrink(partial(_tell_part, story, outcome.seed), outcome))
    return shrunk


def _tell(seeds: Iterable[int], excerpt: Excerpt, story: Story) -> int:
    status = 0
    for seed in seeds:
        outcome = story(seed, keep_trace=True, excerpt=excerpt)
        print("\n".join(outcome.lines))
        print(f"seed {seed}: {outcome.details or 'nothing wrong'}")
        status = status or int(bool(outcome.failure))
    return status


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
