"""``python -m tests.mutants``: break the rules one by one, and see whether the tests notice."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from tests.mutants.catalogue import MUTANTS
from tests.mutants.checks import BrokenCopy
from tests.mutants.mutant import Mutant, StaleMutant
from tests.mutants.report import as_markdown, as_text, is_settled
from tests.mutants.trying import Memory, Trying


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    :return: the exit status: 1 where a mutant survived that should not, 2 where nothing could be tried.
    """
    options = _parse(arguments)
    mutants = _chosen(options.only)
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name}: {mutant.rule} ({mutant.reference})")
        return 0
    trying = Trying(seeds=options.seeds, directed=not options.simulation_only, jobs=options.jobs)
    try:
        verdicts = trying.run(mutants, Memory(options.resume), progress=_say)
    except (StaleMutant, BrokenCopy) as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("interrupted" + (f"; --resume {options.resume} goes on from here" if options.resume else ""))
        return 2
    if options.markdown:
        print(as_markdown(verdicts), end="")
    elif options.json:
        print(json.dumps([verdicts[mutant.name].to_json() for mutant in mutants], indent=2))
    else:
        print(as_text(mutants, verdicts))
    return 0 if all(is_settled(mutant, verdicts[mutant.name]) for mutant in mutants) else 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", metavar="NAME", action="append", help="try this one only (may be given again)")
    parser.add_argument("--list", action="store_true", help="say which there are, and try none")
    parser.add_argument("--seeds", type=int, default=2000, help="seeds of the simulation for each (default: 2000)")
    parser.add_argument("--simulation-only", action="store_true", help="leave out the unit tests")
    parser.add_argument("--jobs", type=int, default=2, help="how many to try at a time (default: 2)")
    parser.add_argument("--resume", metavar="FILE", type=Path, help="keep catches here, and do not repeat those")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the verdicts as JSON")
    form.add_argument("--markdown", action="store_true", help="print the page of the manual; needs all mutants")
    options = parser.parse_args(arguments)
    if options.markdown and options.only:
        parser.error("--markdown needs all mutants")
    return options


def _chosen(names: list[str] | None) -> list[Mutant]:
    if not names:
        return list(MUTANTS)
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        raise SystemExit(f"there is no mutant {', '.join(sorted(unknown))}; see --list")
    return [mutant for mutant in MUTANTS if mutant.name in names]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the commands under way must end, too
    sys.exit(main())
