"""One generator of load as a process, which :mod:`raftkv.bench.process` starts: ``python -m raftkv.bench LOAD``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from typing import Final

from raftkv.bench import closed, evenpace
from raftkv.bench.conversations import NotUnderstood
from raftkv.bench.figures import Measured
from raftkv.bench.overseer import Overseer
from raftkv.bench.process import PipeOverseer
from raftkv.bench.specification import Load


def _native(load: Load, overseer: Overseer) -> Measured:
    from raftkv.bench import native  # brings the reactor, which the others do without

    return native.run(load, overseer)


_GENERATORS: Final[Mapping[str, Callable[[Load, Overseer], Measured]]] = {
    "closed": closed.run,
    "evenpace": evenpace.run,
    "native": _native,
}


def main() -> None:
    """Run the generator that the load names."""
    load = Load.from_json(sys.argv[1])
    overseer = PipeOverseer()
    gc.freeze()
    if load.generator != "native":
        gc.disable()  # nothing there has cycles, and a pause of the generator would be told as one of the server
    try:
        rest = _GENERATORS[load.generator](load, overseer)
    except (OSError, NotUnderstood) as error:
        overseer.failed(f"{load.addresses[0]}: {error}")
        raise SystemExit(1) from None
    overseer.report(rest)


if __name__ == "__main__":
    main()
