"""The arguments of each command and their help, which teaches by example."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from mtlbench import __version__
from mtlbench.cli.examples import EXAMPLES
from mtlbench.errors import unknown

ASKED = 0.0
"""The value of `--power` where no difference is named."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """What was typed; `command` is the name of the command. Options may stand anywhere, in front of it too.

    Args:
        words: without the program's name; help, a version and a word that argparse refuses end the program.

    Raises:
        UsageError: there is no such command.
    """
    whole, parsers = _parsers()
    if not words:
        whole.print_help()
        raise SystemExit(0)
    place = next((i for i, word in enumerate(words) if word in parsers), -1) if words[0].startswith("-") else 0
    if place < 0:
        return whole.parse_args(words)
    name = words[place]
    if name not in parsers:
        raise unknown("command", name, parsers, "`mtlbench --help` describes them.")
    options = parsers[name].parse_intermixed_args(_with_power([*words[:place], *words[place + 1 :]]))
    options.command = name
    return options


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser that has the help of all commands, and that of each."""
    whole = _described(
        argparse.ArgumentParser(prog="mtlbench", formatter_class=argparse.RawDescriptionHelpFormatter),
        "A benchmark suite for multi-task optimisation:\nverified methods, honest statistics, cost beside score.",
        "",
    )
    whole.add_argument("--version", action="version", version=f"mtlbench {__version__}")
    added = whole.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, about: str) -> argparse.ArgumentParser:
        sub = added.add_parser(name, help=about, formatter_class=argparse.RawDescriptionHelpFormatter)
        return _described(sub, about[0].upper() + about[1:] + ".", name)

    run = add("run", "train a grid of cells and print its leaderboard")
    run.add_argument("words", nargs="*", metavar="key=value")
    _plugin(run)
    run.add_argument("--predictions", metavar="DIR", help="write what is predicted on the test split there")
    run.add_argument("--quiet", action="store_true", help="print failures only")
    run.add_argument("--retry", action="store_true", help="also train cells again that diverged")

    listing = add("list", "name the methods, tasks and strategies of sampling there are")
    listing.add_argument("what", nargs="?", choices=("methods", "tasks", "sampling"))
    _plugin(listing)

    show = add("show", "describe a method, a task or a strategy of sampling")
    show.add_argument("name")
    _plugin(show)

    status = add("status", "tell which cells are finished, running, queued, interrupted or failed")
    status.add_argument("words", nargs="*", metavar="results=DIR")

    table = add("table", "make leaderboards from the records")
    table.add_argument("words", nargs="*", metavar="key=value", help="task= method= protocol= seed= regime= results=")
    table.add_argument("--format", choices=("terminal", "md", "csv", "latex", "html", "json"), help="of the output")
    table.add_argument("--out", metavar="PATH", help="one FILE.md|csv|tex|html|json, or a folder for all")
    table.add_argument("--against", metavar="ROW", help="compare with this row (default: uniform)")
    table.add_argument(
        "--selection", metavar="RULE", help="best-val, last, mean-last-N or oracle (default: protocol's)"
    )
    table.add_argument("--split", default="test", metavar="NAME", help="an extra test split instead of test")
    table.add_argument("--level", type=_level, default=0.95, help="of confidence (default: 0.95)")
    table.add_argument("--delta", choices=("positive", "negative"), default="positive", help="which sign is better")
    table.add_argument(
        "--delta-weighting",
        choices=("main", "objective", "metric"),
        default="main",
        help="Delta-m over main metrics, all by objective, or all alike",
    )
    table.add_argument("--all-metrics", action="store_true", help="a column for every metric")
    table.add_argument("--sampling", action="store_true", help="how far scores depend on the choice of test data")
    table.add_argument("--published", action="store_true", help="add what was published for the same protocol")
    table.add_argument(
        "--power",
        nargs="?",
        type=_difference,
        const=ASKED,
        metavar="DIFFERENCE",
        help="instead: how many seeds a difference needs",
    )
    table.add_argument("--allow-mixed", action="store_true", help="mark what must not be mixed, instead of refusing it")
    _plugin(table)

    analyze = add("analyze", "report how similar objectives' gradients are while a model trains")
    analyze.add_argument("runs", nargs="*", metavar="RUN", help="a cell's folder, a results folder, or key=value")
    analyze.add_argument("--out", metavar="DIR", help="where the report goes (default: analysis)")
    analyze.add_argument(
        "--step", action="append", metavar="STEP", help="untrained, half, last or a number of steps; may be repeated"
    )
    analyze.add_argument(
        "--granularity",
        choices=("whole_model", "enc_dec", "all_layer"),
        default="whole_model",
        help="whose gradients the similarity is of (default: whole_model)",
    )
    analyze.add_argument(
        "--kind",
        choices=("disattenuated", "unaligned", "aligned"),
        default="disattenuated",
        help="of cosines that lead (default: disattenuated)",
    )
    _plugin(analyze)

    draw = add("draw", "draw what a task knows to draw of its runs, such as ways over a landscape")
    draw.add_argument("task", metavar="TASK[/VARIANT]")
    draw.add_argument("words", nargs="*", metavar="key=value", help="method= protocol= seed= results= predictions=")
    draw.add_argument("--out", metavar="DIR", help="where figures go (default: figures)")
    _plugin(draw)

    controls = add("controls", "run problems of known outcome and say whether tables show it")
    controls.add_argument("words", nargs="*", metavar="NAME | key=value")
    controls.add_argument("--quiet", action="store_true", help="print what holds and what fails, and no tables")
    controls.add_argument("--out", metavar="FILE.md", help="write expectations, what was found, and the tables")

    reproduce = add("reproduce", "train the cell of a record again and say whether it is the same to the bit")
    reproduce.add_argument("words", nargs="*", metavar="RECORD | key=value")
    reproduce.add_argument("--out", metavar="PATH", help="a report as FILE.json, or a folder of them with a page")
    reproduce.add_argument("--quiet", action="store_true", help="print failures and what was found only")
    _plugin(reproduce)

    data = add("data", "look for, download or verify data sets")
    data.add_argument("action", choices=("status", "fetch", "verify"))
    data.add_argument("words", nargs="*", metavar="TASK/VARIANT | data_root=DIR")
    data.add_argument("-v", "--files", action="store_true", help="name every file")

    new = add("new", "write the skeleton of a method or a task")
    new.add_argument("what", choices=("method", "task"))
    new.add_argument("name")

    check = add("check", "run the conformance battery on a method or a task")
    check.add_argument("name", metavar="NAME | NAME/VARIANT | FILE.py")
    check.add_argument("words", nargs="*", metavar="method.KEY=VALUE | sampling.KEY=VALUE")
    _plugin(check)

    bench = add("bench", "measure speed and memory")
    bench.add_argument("words", nargs="*", metavar="SUBJECT|TASK | key=value")
    bench.add_argument("--out", metavar="FILE", help="write the measurements as JSON")
    _plugin(bench)
    return whole, dict(added.choices)


def _with_power(words: Sequence[str]) -> list[str]:
    """The same, with what follows `--power` taken for its value only if it is a number."""
    found = list(words)
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else ""
        if word == "--power" and "=" in following:
            found[place] = f"--power={ASKED}"
    return found


def _difference(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not allowed: a difference is a positive number, such as 0.5")
    return size


def _level(text: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = 0.0
    if not 0 < level < 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed: a level is between 0 and 1, such as 0.95")
    return level


def _described(parser: argparse.ArgumentParser, about: str, name: str) -> argparse.ArgumentParser:
    parser.description = about
    parser.epilog = f"examples\n{EXAMPLES[name]}"
    return parser


def _plugin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a file that registers methods or tasks"
    )
