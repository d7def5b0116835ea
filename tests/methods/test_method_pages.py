"""The pages of methods are those that the script makes, and a reader of them sees what the docstrings say."""

from __future__ import annotations

import html
import inspect
import re
import runpy
import sys

import pytest
from conftest import ROOT

from mtlbench.catalogue import registry

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "method_pages.py"))
PAGES = SCRIPT["pages"]()
NAMES = sorted(name.removesuffix(".md") for name in PAGES if name != "README.md")
PEERS = SCRIPT["yaml"].safe_load((ROOT / "scripts" / "method_peers.yaml").read_text())


def test_the_committed_pages_are_what_the_script_makes() -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "methods").iterdir()}
    told = "run `python scripts/method_pages.py` and commit docs/methods"
    assert sorted(there) == sorted(PAGES), told
    assert [name for name in PAGES if there[name] != PAGES[name]] == [], told


def test_every_built_in_method_has_a_page_and_a_row() -> None:
    files = {path.stem for path in (ROOT / "methods").glob("*.py") if not path.name.startswith("_")}
    assert {*NAMES} == files
    rows = re.findall(r"^\| \[`(\w+)`\]\((\w+)\.md\) \| \S.* \| (\d{4}|) \| \S.* \| \S.* \|$", PAGES["README.md"], re.M)
    assert [name for name, page, _ in rows if name == page] == NAMES
    assert [name for name, _, year in rows if not year] == ["single_task", "twin"]


def test_the_readme_has_a_row_for_each_method_with_its_cost() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Methods")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \| .* \|$", section, re.M))
    assert {*rows} == {*NAMES}
    for name, cost in rows.items():
        told = re.search(r"^\| backward passes a step \| (\S+?),? ", PAGES[f"{name}.md"], re.M)
        assert told is not None
        assert re.split(r"\W", cost)[0] == told[1]


def seen(page: str) -> str:
    """What a reader sees of Markdown, without white space."""
    rendered = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table").render(page)
    return re.sub(r"\s", "", html.unescape(re.sub(r"<[^>]*>", "", rendered)))


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_sees_all_of_the_docstring(name: str) -> None:
    """No name between underscores is set in italics, no inequality is taken for a tag."""
    doc = inspect.getdoc(sys.modules[registry.methods.load(name).__module__]) or ""
    page = seen(PAGES[f"{name}.md"])
    for paragraph in doc.split("\n\n"):
        plain = re.sub(r"^[-*] ", "", paragraph.removesuffix("::") + ":" * paragraph.endswith("::"), flags=re.M)
        assert re.sub(r"[\s`]", "", plain) in page


@pytest.mark.parametrize(
    ("doc", "page"),
    [
        ("a `b_c` < d_e,\n_f_ and g'_i * 2", "a `b_c` &lt; d_e, \\_f\\_ and g'\\_i \\* 2"),
        ("one::\n\n    x_1 <- y\n      more\n\n    z\n\ntwo", "one:\n\n```text\nx_1 <- y\n  more\n\nz\n```\n\ntwo"),
        ("- a\n  b\n- c", "- a b\n- c"),
    ],
)
def test_docstrings_become_markdown(doc: str, page: str) -> None:
    assert SCRIPT["markdown"](doc) == page


def test_costs_are_those_of_the_kind() -> None:
    rows = {name: re.findall(r"^\| (?:needs|backward.*?) \| (.*) \|$", PAGES[f"{name}.md"], re.M) for name in NAMES}
    assert rows["uniform"] == ["losses", "1"]
    assert rows["famo"] == ["losses, and those of the same batch after the step", "1, and a forward pass"]
    assert rows["pcgrad"] == ["Gramian", "K"]
    assert rows["gradnorm"] == ["Gramian of the last shared layer", "1, and K down to that layer"]
    assert rows["graddrop"] == ["Jacobian", "K"]
    assert rows["moco"] == ["Jacobian, and a number for each of its entries as state", "K"]
    assert rows["single_task"] == ["a model for each objective", "1 for each model"]


def test_every_page_of_a_method_that_needs_gradients_says_what_goes_with_it() -> None:
    told = {name: dict(re.findall(r"^\| `?([^|`]*)`? \| (.*) \|$", PAGES[f"{name}.md"], re.M)) for name in NAMES}
    words = ["granularity", "treated", "refresh=n", "wrt=representation"]
    without = {name for name in NAMES if not {*words} & {*told[name]}}
    losses = {name for name in NAMES if told[name]["needs"].startswith("losses")}
    assert without == losses | {"single_task"}
    assert all({*words} <= {*told[name]} for name in {*NAMES} - without)
    refused = {name for name in {*NAMES} - without if told[name]["wrt=representation"].startswith("no: ")}
    assert refused == {"gradnorm", "modo", "sdmgrad", "db_mtl", "excess_mtl", "moco"}
    assert told["mgda"]["wrt=representation"].startswith("K passes through the heads and 1 through the encoder")
    assert told["modo"]["refresh=n"] == "no: it takes gradients from several batches in a step"
    assert told["gradvac"]["treated"].startswith("corrects the gradients of those that are named")
    assert told["gradnorm"]["granularity"].startswith("makes no difference")


def test_a_parameter_has_its_range_default_and_meaning() -> None:
    assert (
        "| `beta` | float in (0, 1] | `0.01` | 0.001 .. 0.5 (log) | how fast a target follows the similarity that is "
        "found. |"
    ) in PAGES["gradvac.md"]


def test_what_is_compared_with_is_there() -> None:
    assert {*PEERS} <= {*NAMES}
    theirs = [pytest.importorskip(f"torchjd.{room}") for room in ("aggregation", "scalarization")]
    known = {name for room in theirs for name in room.__all__}
    assert {told["torchjd"]["name"] for told in PEERS.values() if "torchjd" in told} - {"none"} <= known
    absent = [name.replace("_", "") for name, told in PEERS.items() if told.get("torchjd", {}).get("name") == "none"]
    assert not {*absent} & {name.lower() for name in known}
