"""One table, six renderings: each says the same, begins with the heading, and survives whatever a label holds."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import handmade_table
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from mtlbench.errors import UsageError
from mtlbench.rendering.files import FORMATS, render, write_all
from mtlbench.rendering.page import finding
from mtlbench.rendering.table import Note, Sampling, Table
from mtlbench.rendering.terminal import show_table
from mtlbench.rendering.text import one_line


def terminal(table: Table, width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    show_table(console, table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def renderings(table: Table) -> dict[str, str]:
    return {"terminal": terminal(table), **{form: render(form, [table]) for form in FORMATS}}


class Page(HTMLParser):
    """What a browser would see: texts, elements, attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.bold: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "wbr", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in ("line",) or self.open.pop() == tag, "elements are nested"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if "body" in self.open and data.strip():
            self.texts.append(data)
            if self.open[-1] == "b":
                self.bold.append(data)


def markdown_cells(text: str) -> list[list[Token]]:
    """The inline token of every cell, by row, the header first."""
    rows: list[list[Token]] = []
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows and token.level >= 4 and len(rows[-1]) < 99:
            rows[-1].append(token)
    return [[cell for cell in row if cell.type == "inline"] for row in rows]


def shown(cell: Token) -> str:
    """The text of a cell as a reader sees it."""
    return "".join(child.content for child in cell.children or [] if child.type == "text")


TABLE = handmade_table.table()
HOSTILE = handmade_table.hostile()


@pytest.mark.parametrize("table", [TABLE, handmade_table.complete(TABLE)], ids=["incomplete", "complete"])
def test_the_heading_comes_first_in_every_rendering_and_says_whether_the_grid_is_complete(table: Table) -> None:
    made = renderings(table)
    assert made["md"].splitlines()[0] == f"### {table.heading}"
    assert made["csv"].splitlines()[0] == f"# {table.heading}"
    assert made["tex"].splitlines()[0] == f"% {table.heading}"
    assert f"\\caption{{{table.heading}}}" in made["tex"]
    assert made["terminal"].splitlines()[0] == table.heading
    assert next(iter(json.loads(made["json"]).items())) == ("heading", table.heading)
    page = Page(made["html"]).texts
    assert "".join(page[: 2 if table.incomplete else 1]) == table.heading
    assert f"<title>{table.heading}</title>" in made["html"]
    assert ("incomplete" in table.heading) == bool(table.incomplete)


def test_facts_and_notes_are_in_every_rendering() -> None:
    for form, text in renderings(TABLE).items():
        flat = " ".join(re.sub(r"</?d[dt]>", " ", text).split())
        for key, value in TABLE.facts.items():
            assert re.search(rf'{key}"?:? "?{value}', flat), (form, key)
        for note in ("Commit 1234567890ab", "mgda: seed 3 diverged"):
            assert note in flat, form


def test_bold_marks_every_value_that_cannot_be_told_apart_from_the_best_and_no_other() -> None:
    best = sorted(row.values[c.key].text(c) for row in TABLE.rows for c in TABLE.columns if TABLE.is_bold(row, c))
    assert len(best) == 10
    assert sorted(re.findall(r"\*\*(.*?)\*\*", render("md", [TABLE]).replace("**Warning:**", ""))) == best
    tex = re.findall(r"\\textbf\{(.*?)\}", render("tex", [TABLE]).replace(r"\textbf{Warning:}", ""))
    assert sorted(x.replace(r"$\pm$", "±").replace("$-$", "-") for x in tex) == best
    numbers = sorted(re.sub(r" \(p.*", "", text) for text in best)
    assert sorted(Page(render("html", [TABLE])).bold) == numbers
    rows = json.loads(render("json", [TABLE]))["rows"]
    assert sum(value["best"] for row in rows for value in row["values"].values()) == len(best)
    console = Console(width=200, file=io.StringIO(), force_terminal=True, color_system="standard")
    show_table(console, TABLE)
    assert isinstance(console.file, io.StringIO)
    assert {text for text in re.findall(r"\x1b\[1m([^\x1b]*)\x1b", console.file.getvalue()) if text in best} == {*best}


def test_the_reference_stands_first_and_published_rows_last_under_a_heading_of_their_own() -> None:
    starts = {
        "terminal": "",
        "md": r"\| \*?",
        "csv": '"',
        "tex": r"(\\textit\{|\\multicolumn\{10\}.*\\textit\{)?",
        "html": '(<tr data-label="|.*class="title">)',
        "json": r'\s+"label": "',
    }
    for form, text in renderings(TABLE).items():
        lines = text.replace(r"\_", "_").splitlines()

        def place(label: str, lines: list[str] = lines, start: str = starts[form]) -> int:
            return next((i for i, line in enumerate(lines) if re.match(start + re.escape(label), line)), -1)

        labels = ["single_task", "gradvac", "imtl", "pcgrad", "mgda", "uniform", "Sener and Koltun 2018"]
        places = [place(label) for label in labels]
        assert places == sorted({*places}), form
        assert -1 not in places, form
        if form in ("csv", "json"):  # the role is a field there
            assert "published" in text
        else:
            assert place("published, not ranked") in range(places[-2] + 1, places[-1]), form


def test_markdown_shows_hostile_labels_as_they_are() -> None:
    text = render("md", [HOSTILE])
    header, *rows = markdown_cells(text)
    labels = {one_line(row.label) + row.marks for row in HOSTILE.rows}
    assert {len(row) for row in rows} == {len(header)} == {4}
    assert shown(header[2]) == one_line(HOSTILE.columns[0].heading)
    assert labels <= {shown(row[0]).removesuffix(" (reference)") for row in rows}
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    kinds = {child.type for token in tokens for child in token.children or []} | {token.type for token in tokens}
    assert not {k for k in kinds if k.startswith(("link", "image", "html", "code", "s_", "blockquote", "ordered"))}
    assert [t.content for t in tokens if t.type == "inline" and "heading" in tokens[tokens.index(t) - 1].type]
    notes = [shown(t) for t in tokens if t.type == "inline" and t.level == 3]
    assert notes[1:] == ["- 1. # x > y", "1. one"]


def rows_of_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("# ")))


def test_csv_has_full_precision_intervals_and_nothing_where_nothing_is_known() -> None:
    rows = {row["method"]: row for row in rows_of_csv(render("csv", [TABLE]))}
    table_rows = {row.label: row for row in TABLE.rows}
    for label, row in rows.items():
        for column in TABLE.columns:
            value = table_rows[label].values.get(column.key)
            assert row[column.key] == ("" if value is None else repr(value.mean))
    value = table_rows["pcgrad"].values["gain"]
    assert value.interval is not None
    assert [float(rows["pcgrad"][f"gain.{k}"]) for k in ("low", "high", "p", "best")] == [
        value.interval.low,
        value.interval.high,
        value.p,
        1.0,
    ]
    assert not {"rank.low", "cost.low", "rank.best", "left.loss.p"} & {*rows["pcgrad"]}
    assert rows["mgda(normalize=loss+,solver=frank_wolfe)"]["n"] == "3"
    assert rows["Sener and Koltun 2018, MGDA"]["n"] == ""


def test_every_rendering_shows_the_sampling_error_beside_the_interval() -> None:
    made = handmade_table.table()
    by_label = {row.label: row for row in made.rows}
    told = {
        "left.accuracy": Sampling(0.311, 5000),
        "right.accuracy": Sampling(None, 5000),
        "delta_m": Sampling(0.4, None),
    }
    chosen = by_label["pcgrad"]
    values = {key: dataclasses.replace(v, sampling=told.get(key)) for key, v in chosen.values.items()}
    rows = tuple(dataclasses.replace(row, values=values) if row is chosen else row for row in made.rows)
    found = renderings(dataclasses.replace(made, rows=rows))
    for form in ("terminal", "md", "tex"):
        told_there = found[form].replace("$\\pm$", "±")
        assert "95.49 ± 0.13 (se 0.31, N 5000)" in told_there, form
        assert "93.38 ± 0.21 (N 5000)" in told_there, form
        assert "(se 0.40)" in told_there, form
    assert "95.49 ± 0.13</b> <small>(se 0.31, N 5000)</small>" in found["html"]
    (header, *lines) = [line for line in found["csv"].splitlines() if not line.startswith("#")]
    (line,) = [line for line in csv.DictReader([header, *lines]) if line["method"] == "pcgrad"]
    assert (line["left.accuracy.sampling_error"], line["left.accuracy.examples"]) == ("0.311", "5000")
    assert (line["right.accuracy.examples"], line["delta_m.sampling_error"]) == ("5000", "0.4")
    assert "right.accuracy.sampling_error" not in line
    in_json = {row["label"]: row["values"] for row in json.loads(found["json"])["rows"]}
    assert in_json["pcgrad"]["left.accuracy"]["sampling_error"] == 0.311
    assert "sampling_error" not in in_json["uniform"]["left.accuracy"]


def test_csv_survives_hostile_labels_and_no_cell_is_a_formula() -> None:
    text = render("csv", [HOSTILE])
    rows = rows_of_csv(text)
    assert [row["method"].removeprefix("'") for row in rows] == [one_line(row.label) for row in HOSTILE.rows]
    for row in csv.reader(text.splitlines()):
        assert not any(field.startswith(("=", "@", "+")) for field in row)
    assert len(text.splitlines()) == 6 + 1 + len(HOSTILE.rows)
    assert rows[2]["'=key.low"] == ""


def test_json_holds_the_whole_table() -> None:
    content = json.loads(render("json", [TABLE]))
    assert content["schema_version"] == 1
    assert content["facts"] == dict(TABLE.facts)
    assert content["columns"] == [dataclasses.asdict(column) for column in TABLE.columns]
    assert content["notes"] == [dataclasses.asdict(note) for note in TABLE.notes]
    by_label = {row["label"]: row for row in content["rows"]}
    for row in TABLE.rows:
        read = by_label[row.label]
        assert (read["role"], read["expected"], read["marks"]) == (row.role, row.expected, row.marks)
        for key, value in row.values.items():
            assert read["values"][key]["mean"] == value.mean
            assert read["values"][key]["low"] == (value.interval.low if value.interval else None)
            assert read["values"][key]["p"] == value.p
    hostile = json.loads(render("json", [HOSTILE]))
    assert [row["label"] for row in hostile["rows"]] == [row.label for row in HOSTILE.rows]
    assert hostile["rows"][2]["values"]["=key"]["low"] is None, "NaN is no JSON"


def test_the_page_shows_hostile_labels_and_asks_for_nothing() -> None:
    html = render("html", [HOSTILE])
    page = Page(html)
    assert not page.open, "every element is closed"
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == tags.count("style") == 1
    assert "img" not in tags
    assert {one_line(row.label) for row in HOSTILE.rows} <= {
        attributes["data-label"] for tag, attributes in page.elements if tag == "tr" and "data-label" in attributes
    }
    addresses = [a.get(name) for _, a in page.elements for name in ("src", "href") if name in a]
    assert addresses == ["data:,"]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Compiles a document and returns its log."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")

    def compile_document(text: str) -> str:
        folder = tmp_path_factory.mktemp("tex")
        (folder / "table.tex").write_text(text, encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        log = done.stdout.decode(errors="replace")
        assert done.returncode == 0, log[-2000:]
        return log

    return compile_document


def test_latex_compiles_as_it_is(compiled: Callable[[str], str]) -> None:
    log = compiled(render("tex", [TABLE]))
    assert "Overfull" not in log


def test_latex_compiles_whatever_the_labels_hold(compiled: Callable[[str], str]) -> None:
    starts = tuple(dataclasses.replace(HOSTILE.rows[1], label=label) for label in ("[x] first", "*", "", "--", "#1"))
    everything = Note(" ".join(map(chr, [*range(0x21, 0x250), *range(0x370, 0x400), *range(0x2010, 0x22FF)])))
    odd = dataclasses.replace(HOSTILE, rows=(*starts, *HOSTILE.rows), notes=(*HOSTILE.notes, everything))
    text = render("tex", [odd, TABLE])
    assert "/etc/hostname" not in compiled(text).replace("\\input", "")
    assert text.count("table begins") == 2


@pytest.mark.parametrize("width", [60, 80, 100, 160, 250])
def test_a_narrow_terminal_breaks_no_number(width: int) -> None:
    lines = terminal(TABLE, width).splitlines()
    assert max(map(len, lines)) <= width
    for row in TABLE.rows:
        for text in TABLE.cells(row)[1:]:
            assert any(text in line for line in lines)


def test_labels_cannot_send_codes_to_the_terminal() -> None:
    shown_there = terminal(HOSTILE)
    assert not {"\x1b", "\x00", "\u202e"} & {*shown_there}
    assert "**bold** _it_ [a](javascript:alert(1))" in shown_there
    for form in ("md", "csv", "tex", "html"):
        assert not {"\x1b", "\x00", "\u202e"} & {*render(form, [HOSTILE])}, form


def test_several_tables_in_one_file() -> None:
    two = [TABLE, HOSTILE]
    for form in ("md", "tex", "html"):
        together = render(form, two)
        assert "multimnist/mnist, protocol mnist@1" in together
        assert "=1+1" in together
    for form in ("csv", "json"):
        with pytest.raises(UsageError, match="--out"):
            render(form, two)
    with pytest.raises(UsageError, match="md"):
        render("mdd", two)


def test_all_renderings_and_an_index_are_written_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    drawn = tmp_path / "figures"
    drawn.mkdir()
    svg, pdf = drawn / f"{TABLE.slug}-rank_profile.svg", drawn / f"{TABLE.slug}-rank_profile.pdf"
    svg.write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1"/>')
    pdf.write_bytes(b"%PDF")
    written = write_all([TABLE, HOSTILE], tmp_path, {TABLE.slug: [svg, pdf]})
    assert written[-1] == tmp_path / "index.html"
    assert {path.name for path in written} == {
        *(f"{table.slug}.{form}" for table in (TABLE, HOSTILE) for form in FORMATS),
        "README.md",
        "index.html",
    }
    for path in written:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".html":
            elements = Page(text).elements
            links = [a[name] or "" for _, a in elements for name in ("href", "src") if name in a]
            embedded = [a for tag, a in elements if tag == "img" and (a["src"] or "").startswith("data:image/svg+xml")]
            assert bool(embedded) == (path.stem == TABLE.slug)
        else:
            links = re.findall(r"\]\(([\w./-]+)\)", text) if path.name == "README.md" else []
        assert all((path.parent / link).exists() for link in links if not link.startswith("data:"))
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert TABLE.incomplete in index
    assert "rank profile" in index
    assert all(f"leaderboards/{TABLE.slug}.{form}" in index for form in FORMATS)


def test_nothing_is_written_beside_the_folder_or_over_another_table(tmp_path: Path) -> None:
    for bad in ([TABLE, TABLE], [dataclasses.replace(TABLE, slug="../up")]):
        with pytest.raises(ValueError, match="Slug"):
            write_all(bad, tmp_path / "out")
    assert not [*tmp_path.iterdir()]
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--out"):
        write_all([TABLE], tmp_path / "file")


def test_a_star_stands_for_bold_where_the_output_cannot_show_it() -> None:
    def printed(table: Table, **how: Any) -> str:
        console = Console(file=io.StringIO(), width=200, **how)
        show_table(console, table)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    plain = printed(handmade_table.table())
    assert "95.61 ± 0.13*" in plain
    assert "95.21 ± 0.13*" not in plain
    assert "* stands for bold." in plain
    assert "*" not in printed(handmade_table.table(), force_terminal=True, color_system="standard")
    nothing = dataclasses.replace(handmade_table.table(), rows=handmade_table.table().rows[:1])
    assert "*" not in printed(nothing)


def test_the_index_says_a_sentence_of_finding_for_each_table(tmp_path: Path) -> None:
    made = handmade_table.table()
    write_all([made], tmp_path)
    said = "Δm [%]: gradvac(beta=0.01) leads with -0.09 [-0.30, +0.11]; 1 of 3 others cannot be told apart from it."
    assert said in (tmp_path / "index.html").read_text()
    rows = [row for row in made.rows if row.label in ("imtl", "single_task")]
    assert finding(dataclasses.replace(made, rows=tuple(rows))) == ""
    alone = tuple(row for row in made.rows if row.label == "uniform")
    assert finding(dataclasses.replace(made, rows=alone)).endswith(", alone.")


def test_a_page_tells_of_columns_out_of_sight() -> None:
    assert '<button type="button" class="more" hidden></button>' in render("html", [handmade_table.table()])


def test_the_index_leads_to_the_standing_controls_where_their_page_stands(tmp_path: Path) -> None:
    write_all([TABLE], tmp_path)
    assert "controls" not in (tmp_path / "leaderboards" / "README.md").read_text()
    (tmp_path / "controls").mkdir()
    (tmp_path / "controls" / "README.md").write_text("# Standing controls")
    write_all([TABLE], tmp_path)
    assert "(../controls/README.md)" in (tmp_path / "leaderboards" / "README.md").read_text()
