"""Measures everything in one run: `./scripts/bench`, or `python -m benchmarks`; or `soak`.

What lives here: the order of rounds. What does not: what is measured. Each round measures
everything once, so that a change of the machine's mood meets all figures alike.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import structlog

from benchmarks import report, soak
from benchmarks.figures import Figures
from benchmarks.files import Place
from benchmarks.life import Enqueuing, Life
from benchmarks.raw import Raw
from benchmarks.web import Web

__all__ = ["main"]

_GROUPS = ("raw", "enqueue", "life", "http")

Measure = Callable[[], dict[str, float]]


def main() -> None:
    """Measure, print the table, write JSON."""
    options = _options()
    # The runner says when it starts and stops: hundreds of lines here, and of no interest.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    options.folder.mkdir(parents=True, exist_ok=True)
    figures = Figures()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder))
        place = Place(Path(folder))
        facts = report.about(place.row_size(), options.rounds, pure=options.pure)
        cases = _cases(place, options, stack)
        for number in range(options.rounds + 1):
            for case in cases:
                sample = case()
                if number:
                    figures.add(sample)
            print(f"round {number} of {options.rounds}", file=sys.stderr)
    print(report.table(figures, facts))
    report.write_json(options.json, figures, facts)
    print(f"\nWritten to {options.json}", file=sys.stderr)


def _cases(place: Place, options: argparse.Namespace, stack: ExitStack) -> list[Measure]:
    scale = 0.1 if options.quick else 1.0
    cases: list[Measure] = []
    if "raw" in options.only:
        cases.append(Raw(place, scale).measure)
    if "enqueue" in options.only:
        cases.append(Enqueuing(place, scale).measure)
    if "life" in options.only:
        cases += [Life(place, scale, kind).measure for kind in ("async", "sync")]
    if "http" in options.only:
        web = Web(place, 0.8 if options.quick else 3.0, pure=options.pure)
        cases.append(stack.enter_context(web).measure)
    return cases


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than a minute, less precise")
    parser.add_argument("--rounds", type=int, default=5, help="how often (default 5)")
    parser.add_argument("--pure", action="store_true", help="uvicorn on asyncio and h11")
    parser.add_argument("--only", nargs="+", choices=_GROUPS, default=_GROUPS)
    parser.add_argument("--json", type=Path, default=Path("data/bench.json"))
    parser.add_argument(
        "--folder", type=Path, default=Path("data"), help="a folder on the disk to measure"
    )
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["soak"]:
        sys.exit(soak.main(sys.argv[2:]))
    main()
