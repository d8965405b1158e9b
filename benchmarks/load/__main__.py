"""One generator of load as a process: ``python -m benchmarks.load SPECIFICATION``."""

from __future__ import annotations

import gc
import importlib
import json
import sys

from raftkv.bench.specification import Load


def main() -> None:
    """Run the generator that the specification names."""
    load = Load.from_json(sys.argv[1])
    module = importlib.import_module(f"benchmarks.load.{load.generator}")
    gc.freeze()
    if load.generator != "clients":
        gc.disable()  # nothing there has cycles, and a pause of the generator would be told as one of the server
    print(json.dumps(module.run(load, lambda: print("begin", flush=True))), flush=True)


if __name__ == "__main__":
    main()
