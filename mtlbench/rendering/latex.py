"""Tables as a LaTeX document with booktabs rules."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from mtlbench.rendering.table import Row, Section, Table
from mtlbench.rendering.text import heading_lines, one_line

PORTRAIT = 125
"""Tables of more characters than this, side by side, turn the page to landscape."""

_DOCUMENT = r"""%
% This file compiles as it is. For a paper, copy what stands between the marked lines;
% it needs \usepackage{{booktabs,graphicx}}.
\documentclass{options}{{article}}
\usepackage[utf8]{{inputenc}}
\IfFileExists{{lmodern.sty}}{{\usepackage[T1]{{fontenc}}\usepackage{{lmodern}}}}{{}}
\usepackage{{booktabs,graphicx}}
\usepackage[margin=15mm]{{geometry}}
\pagestyle{{empty}}
\begin{{document}}
{tables}
\end{{document}}
"""

_TABLE = r"""% --- table begins ---
\begin{{table}}[ht]
\centering
\caption{{{caption}}}
\label{{tab:{slug}}}
\par\smallskip
\footnotesize
\resizebox{{\ifdim\width>\linewidth\linewidth\else\width\fi}}{{!}}{{%
\begin{{tabular}}{{@{{}}l{alignment}@{{}}}}
\toprule
{header} \\
\midrule
{body}
\bottomrule
\end{{tabular}}}}
\par\vspace{{1ex}}
\begin{{minipage}}{{\linewidth}}\scriptsize\raggedright
{notes}
\end{{minipage}}
\end{{table}}
% --- table ends ---"""

_ACTIVE = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_SYMBOLS = {
    **{
        "±": "\\pm",
        "∓": "\\mp",
        "×": "\\times",
        "÷": "\\div",
        "·": "\\cdot",
        "−": "-",
        "°": "^{\\circ}",
        "∞": "\\infty",
    },
    **{"↑": "\\uparrow", "↓": "\\downarrow", "→": "\\rightarrow", "←": "\\leftarrow"},
    **{"≤": "\\leq", "≥": "\\geq", "≠": "\\neq", "≈": "\\approx", "¬": "\\neg"},
    **{"†": "\\dagger", "‡": "\\ddagger", "¹": "^1", "²": "^2", "³": "^3"},
    **{"α": "\\alpha", "β": "\\beta", "γ": "\\gamma", "δ": "\\delta", "ε": "\\varepsilon", "η": "\\eta"},
    **{"θ": "\\theta", "λ": "\\lambda", "μ": "\\mu", "µ": "\\mu", "ρ": "\\rho", "σ": "\\sigma", "τ": "\\tau"},
    **{"φ": "\\varphi", "ω": "\\omega", "Δ": "\\Delta", "Σ": "\\Sigma", "∆": "\\Delta", "∑": "\\Sigma"},
}
_PUNCTUATION = {"–": "--", "—": "---", "…": "...", "‘": "`", "’": "'", "“": "``", "”": "''", "§": "\\S{}", "¶": "\\P{}"}
_ACCENTS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"
_LETTERS = "ßøØłŁæÆœŒ" + "".join(
    letter
    for letter in map(chr, range(0xC0, 0x180))
    if len(parts := unicodedata.normalize("NFD", letter)) == 2 and parts[1] in _ACCENTS
)
"""Beyond ASCII, those that every font encoding has or can compose."""
_LIGATURES = re.compile(r"([-,'])(?=\1)")


def document(tables: Sequence[Table]) -> str:
    """A document that pdflatex compiles, a float for each table.

    Wide tables turn the page to landscape, and shrink if they are still too wide.
    """
    comments = []
    for table in tables:
        comments += [table.heading, *(f"{key}: {value}" for key, value in table.facts.items())]
    wide = any(sum(_widths(table)) > PORTRAIT for table in tables)
    body = "\n\n".join(map(_float, tables))
    content = _DOCUMENT.format(options="[landscape]" if wide else "", tables=body)
    return "".join(f"% {one_line(comment)}\n" for comment in comments) + content


def _float(table: Table) -> str:
    sections = table.sections()
    body = "\n\\midrule\n".join(_section(table, section) for section in sections)
    notes = [
        (r"\textbf{Warning:} " if note.kind == "warning" else "")
        + (f"{escape(note.mark)} " if note.mark else "")
        + f"{escape(note.text)}\\par"
        for note in table.notes
    ]
    return _TABLE.format(
        caption=escape(table.heading),
        slug=table.slug,
        alignment="r" * (len(table.header()) - 1),
        header=" & ".join(_header(table)),
        body=body,
        notes="\n".join(notes),
    )


def _widths(table: Table) -> list[int]:
    """The characters of the widest entry of each column, headings aside."""
    cells = [table.cells(row) for row in table.rows]
    return [max([8, *(len(row[index]) for row in cells)]) for index in range(len(table.header()))]


def _header(table: Table) -> list[str]:
    """The headings, broken into lines no wider than the numbers below them where words allow."""
    shown = []
    for index, (heading, width) in enumerate(zip(table.header(), _widths(table), strict=True)):
        lines = [escape(line) for line in heading_lines(heading, width + 2)]
        side, stacked = "l" if index == 0 else "r", r" \\ ".join(lines)
        shown.append(
            rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stacked}\end{{tabular}}" if len(lines) > 1 else stacked
        )
    return shown


def _section(table: Table, section: Section) -> str:
    lines = [_row(table, section, row) for row in section.rows]
    if section.is_apart:
        lines.insert(0, rf"\multicolumn{{{len(table.header())}}}{{@{{}}l}}{{\textit{{{escape(section.title)}}}}} \\")
    return "\n".join(lines)


def _row(table: Table, section: Section, row: Row) -> str:
    _, count, *values = table.cells(row)
    label, marks = escape(row.label), rf"\textsuperscript{{{escape(row.marks)}}}" if row.marks else ""
    if section.role != "method":
        label = rf"\textit{{{label}}}"
    cells = []
    for text, column in zip(values, table.columns, strict=True):
        shown = "--" if text == "-" else escape(text.replace("-", "−"))
        cells.append(rf"\textbf{{{shown}}}" if table.is_bold(row, column) else shown)
    return " & ".join([label + marks, escape(count), *cells]) + r" \\"


def escape(text: str) -> str:
    """One line of text for LaTeX, in any font encoding; `?` for characters that no usual font has."""
    text = _LIGATURES.sub("\\1\u200b", unicodedata.normalize("NFC", one_line(text)))
    protected = "{}" if text.startswith(("[", "*")) else ""  # a line break before it would take it as an argument
    return protected + "".join(map(_character, text))


def _character(character: str) -> str:
    if character == "\u200b":  # between two characters that would become one
        return "{}"
    if character in _ACTIVE:
        return _ACTIVE[character]
    if character in _SYMBOLS:
        return f"${_SYMBOLS[character]}$"
    if character in _PUNCTUATION:
        return _PUNCTUATION[character]
    if character.isascii() or character in _LETTERS:
        return character
    if unicodedata.category(character).startswith("M"):  # marks that belong to the character before
        return ""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_ACTIVE.get(c, c) for c in plain) or "?"
