"""Measures everything in one run: `./scripts/bench`, or `python -m benchmarks`; or `soak`, `page`.

What lives here: the order of rounds. What does not: what is measured. Each round measures
everything once, so that a change of the machine's mood meets all figures alike.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import structlog

from benchmarks import page, report, soak
from benchmarks.admin import Looking
from benchmarks.between import Latency, Processes
from benchmarks.depth import Depth, Pruning
from benchmarks.fairness import Fairness
from benchmarks.figures import Figures
from benchmarks.files import Place
from benchmarks.idle import Disk, Idle, can_trace
from benchmarks.life import Enqueuing, Life
from benchmarks.raw import Raw
from benchmarks.rivals import Rivals
from benchmarks.streams import Streams
from benchmarks.web import Web

__all__ = ["main"]

# The first ones are measured by default; the others with --full, --peers or by name.
_GROUPS = (
    "raw", "enqueue", "life", "http", "between", "fairness", "streams", "idle", "disk", "prune",
)  # fmt: skip  # in the order in which they are measured
_LONG = ("depth", "admin")
# What is counted and not timed comes out the same in each round, and once is enough.
_ONCE = ("idle", "disk")

Measure = Callable[[], dict[str, float]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write JSON."""
    options = _options(arguments)
    # The runner says when it starts and stops: hundreds of lines here, and of no interest.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    options.folder.mkdir(parents=True, exist_ok=True)
    figures = Figures()
    peers: Rivals | None = None
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder))
        place = Place(Path(folder))
        facts = report.about(place.row_size(), options.rounds, pure=options.pure)
        facts["scale"] = f"{options.scale:g} of what a full run does"
        if options.peers is not None:
            peers = Rivals(place, 0.3 if options.quick else 1.0, tuple(options.peers))
            peers.prepare()
        cases = _cases(place, options, stack)
        for once in _once(place, options):
            figures.add(once())

        def save() -> dict[str, Any]:
            found = report.document(figures, facts, peers)
            report.write_json(options.json, found)
            return found

        _rounds(figures, cases, options.rounds, save, warm=0 if options.cold else 1)
        if peers is not None:
            _rounds(figures, [peers.measure], options.rounds, save, warm=0)
        found = save()
    print(report.text(found))
    print(f"\nWritten to {options.json}", file=sys.stderr)


def _rounds(
    figures: Figures, cases: list[Measure], rounds: int, save: Callable[[], Any], warm: int = 1
) -> None:
    """Measure; after each round what is known is saved, so that an end by force loses little."""
    for number in range(1 - warm, rounds + 1) if cases else ():
        for case in cases:
            sample = case()
            if number:
                figures.add(sample)
        save()
        print(f"round {number} of {rounds}", file=sys.stderr)


def _cases(place: Place, options: argparse.Namespace, stack: ExitStack) -> list[Measure]:
    scale = options.scale
    makers: dict[str, Callable[[], list[Measure]]] = {
        "raw": lambda: [Raw(place, scale).measure],
        "enqueue": lambda: [Enqueuing(place, scale).measure],
        "life": lambda: [Life(place, scale, kind).measure for kind in ("async", "sync")],
        "http": lambda: [
            stack.enter_context(Web(place, 3.0 * _shorter(scale), pure=options.pure)).measure
        ],
        "between": lambda: [
            Processes(place, 2.0 * _shorter(scale)).measure,
            Latency(place, max(5, int(200 * scale))).measure,
        ],
        "fairness": lambda: [Fairness(place, 3.0 * _shorter(scale), pure=options.pure).measure],
        "streams": lambda: [
            Streams(
                place, 3.0 * _shorter(scale), max(500, int(20_000 * scale)), pure=options.pure
            ).measure
        ],
        "prune": lambda: [
            Pruning(
                place, max(1_000, int(20_000 * scale)), max(2_000, int(200_000 * scale))
            ).measure
        ],
        "depth": lambda: [
            Depth(place, options.depth, max(500, int(10_000 * scale)), options.dead).measure
        ],
        "admin": lambda: [
            Looking(
                place,
                options.depth,
                live=max(200, int(60_000 * scale)),
                calls=max(1, int(9 * scale)),
                seconds=5.0 * _shorter(scale),
                pure=options.pure,
            ).measure
        ],
    }
    return [case for name in options.only if name in makers for case in makers[name]()]


def _once(place: Place, options: argparse.Namespace) -> list[Measure]:
    wanted = [name for name in _ONCE if name in options.only]
    if not wanted:
        return []
    if not can_trace():
        print("skipped: idle, disk: strace is not installed or may not trace", file=sys.stderr)
        return []
    seconds = 20.0 if options.quick else 60.0
    if options.seconds_idle is not None:
        seconds = options.seconds_idle
    cases: list[Measure] = []
    if "idle" in wanted:
        cases.append(Idle(place, seconds, pure=options.pure).measure)
    if "disk" in wanted:
        cases.append(Disk(place, max(100, int(2_000 * options.scale))).measure)
    return cases


def _shorter(scale: float) -> float:
    """A time in which things are to happen does not shrink as far as their number."""
    return scale if scale in {0.0, 1.0} else max(0.1, min(1.0, scale * 2.5))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than two minutes, less precise")
    parser.add_argument("--full", action="store_true", help="files with 1,000,000 jobs too")
    parser.add_argument(
        "--peers", nargs="*", metavar="NAME", help="other packages too, all or the named ones"
    )
    parser.add_argument("--rounds", type=int, help="how often (default 5; 3 with --quick)")
    parser.add_argument("--pure", action="store_true", help="uvicorn on asyncio and h11")
    parser.add_argument("--only", nargs="*", choices=[*_GROUPS, *_LONG])
    parser.add_argument("--json", type=Path, default=Path("data/bench.json"))
    parser.add_argument(
        "--folder", type=Path, default=Path("data"), help="a folder on the disk to measure"
    )
    parser.add_argument("--scale", type=float, help="how much is done (default 1; 0.1 if quick)")
    parser.add_argument("--depth", type=int, default=1_000_000, help=argparse.SUPPRESS)
    parser.add_argument("--dead", type=int, default=1_000, help=argparse.SUPPRESS)
    parser.add_argument("--cold", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds-idle", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 3 if options.quick else 5
    if options.scale is None:
        options.scale = 0.1 if options.quick else 1.0
    if options.only is None:
        options.only = [*_GROUPS, *(_LONG if options.full else ())]
    return options


if __name__ == "__main__":
    match sys.argv[1:2]:
        case ["soak"]:
            sys.exit(soak.main(sys.argv[2:]))
        case ["page"]:
            page.main(sys.argv[2:])
        case _:
            main()
