"""``python -m tests.fuzz NAME``: one fuzzer for a time, or one input of it again.

python -m tests.fuzz wire --seconds 600
python -m tests.fuzz wire --seed 7 --index 1234
"""

from __future__ import annotations

import argparse
import importlib
import sys

from . import campaign

TARGETS = {
    "wire": ".wire_frames",
    "policy": ".policy_texts",
    "command": ".command_lines",
    "filter": ".filters",
}


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--inputs", type=int, help="so many inputs instead of a time")
    parser.add_argument("--seed", type=int, default=campaign.long_seed())
    parser.add_argument("--index", type=int, help="this input alone")
    options = parser.parse_args()
    module = importlib.import_module(TARGETS[options.name], __package__)
    if options.index is not None:
        campaign.one(options.name, module.target, options.seed, options.index)
        return 0
    print(f"{options.name}: seed {options.seed}", file=sys.stderr, flush=True)
    number = campaign.run(
        options.name,
        module.target,
        options.seed,
        inputs=options.inputs,
        seconds=options.seconds,
    )
    print(f"{options.name}: {number} inputs, nothing found", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
