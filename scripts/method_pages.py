"""A page for each built-in method and an index of them, `docs/methods/`, from the methods' own docstrings.

`python scripts/method_pages.py` writes them. How the definitions of other libraries differ, where no docstring says so,
stands in `scripts/method_peers.yaml`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

import mtlbench
from mtlbench.catalogue import registry
from mtlbench.catalogue.signature import parameters
from mtlbench.cli import needs
from mtlbench.engine.conformance.properties import PROMISES, exceptions
from mtlbench.engine.kinds import Method

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "methods"
PEERS = ROOT / "scripts" / "method_peers.yaml"
MADE = "Made by `scripts/method_pages.py` from [methods/{name}.py]({file}): change that, and run it again."
AS_TYPED = ("granularity", "treated", "refresh=n", "wrt=representation")
"""Facts that are named by the word of a run."""
INDEX = """\
# Methods

One page for each, made from its docstring; `mtlbench show METHOD` tells the same. K is the number of objectives. A
method of the losses costs one backward pass a step, one that needs gradients K of them. With `wrt=representation` those
K go through the heads alone and one more through the encoder; each page says whether its method can, and what
`granularity`, `treated` and `refresh` do with it. `torchjd.NAME` (`methods/_torchjd.py`) is what TorchJD has under this
name, and has no page.

| method | what it is | year | needs | backward passes a step |
| --- | --- | --- | --- | --- |
"""


def pages() -> dict[str, str]:
    """File name in `docs/methods/` -> its text, of all built-in methods and of the index."""
    peers = yaml.safe_load(PEERS.read_text(encoding="utf-8"))
    built_in = {n: e for n, e in registry.Registry("method", "mtlbench.methods").entries().items() if "/" in e.origin}
    names = sorted(name for name in built_in if Path(built_in[name].origin).is_relative_to(ROOT))
    found = {f"{name}.md": page(name, peers.get(name, {})) for name in names}
    return {**found, "README.md": INDEX + "".join(map(_row, names))}


def page(name: str, peers: Mapping[str, Any]) -> str:
    """Summary, facts, formula and conventions, parameters, and how the definitions of other libraries differ."""
    cls = cast("type[Method]", registry.methods.load(name))
    summary, _, rest = (inspect.getdoc(sys.modules[cls.__module__]) or "").partition("\n\n")
    file = f"../../methods/{name}.py"
    method = mtlbench.method(name)
    paper = registry.methods.entry(name).paper
    facts = {
        "published": _escaped(paper) or "not a method of a paper",
        **({"year": _year(paper)} if paper else {}),
        **{f"`{fact}`" if fact in AS_TYPED else fact: _escaped(told) for fact, told in needs.facts(method).items()},
    }
    parts = [
        f"# `{name}`",
        markdown(summary),
        "\n".join(["| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in facts.items())]),
        markdown(rest),
        "## Parameters",
        _parameters(cls),
        "## What it does not promise",
        _exceptions(method),
        *(("## In TorchJD and LibMTL", _in_others(peers)) if paper else ()),
        MADE.format(file=file, name=name),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown(doc: str) -> str:
    """A docstring as Markdown: a paragraph a line, indented blocks as blocks of text, lists as they are."""
    blocks: list[str] = []
    for block in doc.split("\n\n"):
        if block.startswith("    "):
            code = "\n".join(line[4:] for line in block.split("\n"))
            if blocks and blocks[-1].endswith("\n```"):
                blocks[-1] = blocks[-1].removesuffix("```") + f"\n{code}\n```"
            else:
                blocks.append(f"```text\n{code}\n```")
        elif block:
            lines = re.sub(r"\n(?![-*] )\s*", " ", block)
            blocks.append(_escaped(re.sub(r"::$", ":", lines)))
    return "\n\n".join(blocks)


def _escaped(text: str) -> str:
    """Plain text in Markdown: what stands between backticks stays as it is."""
    parts = text.split("`")
    for place in range(0, len(parts), 2):
        plain = parts[place].replace("<", "&lt;").replace("*", r"\*")
        parts[place] = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", plain)
    return "`".join(parts)


def _parameters(cls: type[Method]) -> str:
    about = dict(_arguments(inspect.getdoc(cls) or ""))
    rows = [
        [
            f"`{parameter.name}`",
            _escaped(parameter.allowed),
            "required" if parameter.required else f"`{_typed(parameter.default)}`",
            "" if parameter.search is None else _escaped(str(parameter.search)),
            _escaped(about.get(parameter.name, "")),
        ]
        for parameter in parameters(cls).values()
    ]
    if not rows:
        return "It takes none."
    table = [["`method.KEY`", "takes", "default", "searched by `tune=N`", "what it is"], ["---"] * 5, *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in table)


def _exceptions(method: Method) -> str:
    """Of what most methods promise, what this one does not."""
    declared = exceptions(method)
    if not declared:
        return f"`mtlbench check {method.name}` tries all that methods promise."
    rows = [f"| {PROMISES[name]} | {_escaped(reason)} |" for name, reason in declared.items()]
    told = f"`mtlbench check {method.name}` tries everything else that methods promise."
    return "\n".join(["| what methods promise | why this one does not |", "| --- | --- |", *rows, "", told])


def _arguments(doc: str) -> Iterator[tuple[str, str]]:
    """Name and description of each argument under `Args:`."""
    for match in re.finditer(r"^    (\w+): (.*(?:\n      .*)*)", doc.partition("Args:\n")[2], re.MULTILINE):
        yield match[1], " ".join(match[2].split())


def _in_others(peers: Mapping[str, Any]) -> str:
    """A line for each library; without one where nobody has looked it up."""
    lines = []
    if theirs := peers.get("torchjd"):
        told = theirs.get("differs", "How it differs is told above.")
        lines.append(
            "- TorchJD has no such method." if theirs["name"] == "none" else f"- TorchJD, {theirs['name']}: {told}"
        )
    if theirs := peers.get("libmtl"):
        lines.append(f"- LibMTL: {theirs}")
    return "\n".join(lines) or "Not looked up, but for what is said above."


def _row(name: str) -> str:
    method, entry = mtlbench.method(name), registry.methods.entry(name)
    cells = [f"[`{name}`]({name}.md)", _escaped(entry.summary), _year(entry.paper)]
    cells += [needs.needs(method), needs.passes(method)]
    return f"| {' | '.join(cells)} |\n"


def _year(paper: str) -> str:
    """When a paper was published, or else put on arXiv, whose numbers begin with year and month; empty if unknown."""
    if stated := re.search(r"\b(?:19|20)\d\d\b", paper):
        return stated[0]
    numbered = re.search(r"arXiv:(\d\d)\d\d\.", paper)
    return f"20{numbered[1]}" if numbered else ""


def _typed(value: Any) -> str:
    """A default as it is typed in a word."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(_typed, value))}]" if isinstance(value, list | tuple) else str(value)


def main() -> None:
    """Write all pages, and remove those of methods that are gone."""
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for path in FOLDER.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
