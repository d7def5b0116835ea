"""What is known of each published text: its language, its numbering of the Psalms, the marks that are no text."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from .layouts import Verse


class Repair(NamedTuple):
    """What a pattern finds is cut out of a verse."""

    rule: str
    pattern: re.Pattern[str]
    opens_psalm: bool = False
    """Whether it is for the first verse of a psalm alone."""


class Translation(NamedTuple):
    """A text whose language is known."""

    language: str
    """ISO 639-3, the macrolanguage where NTREX names that."""
    name: str
    """The language's name in English."""
    script: str
    """ISO 15924."""
    english_psalms: bool = True
    """Whether its psalms are numbered like the English ones, with no title that counts as verse 1."""
    repairs: tuple[Repair, ...] = ()
    cut_short: tuple[str, ...] = ()
    """Books in which many verses break off in the middle."""


NOTES = "notes cut out"
TITLES = "psalm titles cut out"


def _notes(pattern: str) -> Repair:
    return Repair(NOTES, re.compile(pattern))


TRANSLATIONS = {
    "ChiUn": Translation(
        "zho",
        "Chinese",
        "Hant",
        repairs=(
            Repair(TITLES, re.compile("^（[^）]*）"), opens_psalm=True),
            _notes("（(?:原 ?文|或 ?譯|或 ?作|又 ?作|有 ?古|[0-9])[^）]*）"),
        ),
    ),
    "CzeBKR": Translation("ces", "Czech", "Latn", repairs=(_notes(r"\{[^}]*\}"),)),
    "Che1860": Translation("chr", "Cherokee", "Cher"),
    "DaOT1871NT1907": Translation("dan", "Danish", "Latn", english_psalms=False),
    "DutSVV": Translation("nld", "Dutch", "Latn", english_psalms=False),
    "FinPR": Translation(
        "fin", "Finnish", "Latn", repairs=(Repair(TITLES, re.compile(r"^[^{]+(?=\{\d+:2\})"), opens_psalm=True),)
    ),
    "FreBDM1744": Translation(
        "fra", "French", "Latn", english_psalms=False, repairs=(_notes("(?:Retournez au Début|={3}).*"),)
    ),
    "GerElb1905": Translation("deu", "German", "Latn"),
    "GreVamvas": Translation("ell", "Greek", "Grek"),
    "HunKar": Translation("hun", "Hungarian", "Latn", english_psalms=False),
    "KorRV": Translation("kor", "Korean", "Hang"),
    "Mal1910": Translation("mal", "Malayalam", "Mlym"),
    "ManxGaelic": Translation("glv", "Manx", "Latn"),
    "Mg1865": Translation("mlg", "Malagasy", "Latn", english_psalms=False),
    "Norsk": Translation("nob", "Norwegian Bokmal", "Latn", english_psalms=False),
    "PohnOld": Translation("pon", "Pohnpeian", "Latn"),
    "PolGdanska": Translation("pol", "Polish", "Latn", english_psalms=False),
    "PorBLivre": Translation("por", "Portuguese", "Latn"),
    "RusSynodal": Translation(
        # Its brackets hold what the Greek text adds to the Hebrew one, which English translations lack.
        "rus",
        "Russian",
        "Cyrl",
        english_psalms=False,
        repairs=(Repair("bracketed additions cut out", re.compile(r" ?\[[^\]]*\]")),),
    ),
    "SpaRV": Translation("spa", "Spanish", "Latn"),
    "SrKDEkavski": Translation("srp", "Serbian", "Cyrl"),
    "Swe1917": Translation(
        # The notes of a chapter follow its last verse, from a free-standing [1] on.
        "swe",
        "Swedish",
        "Latn",
        english_psalms=False,
        repairs=(_notes(r"\s\[1\]\s.*"), _notes(r"\[\d+\]")),
    ),
    "TagAngBiblia": Translation("tgl", "Tagalog", "Latn"),
    # Both are the same text in Eastern Armenian; this copy keeps the numbering where that one closes its gaps.
    "Armenian-PART": Translation("hye", "Armenian", "Armn"),
    "ArmEastern": Translation("hye", "Armenian", "Armn"),
    "Basque-NT": Translation("eus", "Basque", "Latn"),
    "Estonian-PART": Translation("est", "Estonian", "Latn", cut_short=("MAT", "MAR", "LUK", "1CO", "2CO")),
    "Ewe-NT": Translation("ewe", "Ewe", "Latn"),
    "Gujarati-NT": Translation(
        "guj",
        "Gujarati",
        "Gujr",
        repairs=(
            # References to parallel passages after a verse, and to the source of a quotation, also within one.
            _notes(r"(?: \([^()\d]+ \d+ ?:| : ?\d+ ?-)[\d\s:;,-][^()]*\)$"),
            _notes(r"(?<=[.!?:’”]) \S+(?: \S+)? \d+ ?: ?\d[\d,-]*"),
        ),
    ),
    "Latvian-NT": Translation(
        "lav", "Latvian", "Latn", repairs=(_notes(r' ?(?:font size="2")?\([^()]*\d[^()]*\)(?:/font)?'),)
    ),
    # Its header names Swati (ssw).
    "Swahili-NT": Translation("swa", "Swahili", "Latn"),
    "Wolof-NT": Translation("wol", "Wolof", "Latn"),
    "Zulu-NT": Translation("zul", "Zulu", "Latn", repairs=(_notes(r"\s\d+:\d+ .*"),)),
}
"""Name of the file -> what is known of its text. Of two texts in one language the first one here goes first."""

CENTRE = "ASV"
"""The English text, the American Standard Version of 1901."""

SPECIFIC_CODES = dict(
    re.findall(
        r"(\w+)=(\w+)",
        "alb=sqi arm=hye baq=eus bur=mya chi=zho cze=ces dut=nld fre=fra geo=kat ger=deu gre=ell ice=isl mac=mkd "
        "mao=mri may=msa nor=nob per=fas rum=ron scc=srp scr=hrv slo=slk tib=bod wel=cym",
    )
)
"""ISO 639-2 codes that headers of CES files have -> the ISO 639-3 code that the language has here."""

GENERAL = (
    Repair("markup cut out", re.compile(r"<[^<>]*>")),
    Repair("numbers of another edition cut out", re.compile(r"\{\d+:\d+\}|\((?:[HG]|Psalms )?(?:\d+[:-]\d+|/:\d+)\)")),
    Repair("brackets and asterisks cut out, words kept", re.compile(r"[\[\]*]")),
)
_ANY_GENERAL = re.compile(r"[<{\[\]*]|\([HGP/\d]")

INVISIBLE = re.compile("[\u200b\ufeff\u00ad]")
_HAN = "\u2500\u2014\u2018-\u201d\u2026\u3001-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
HAN_SPACES = re.compile(f"(?<=[{_HAN}])\\s+(?=[{_HAN}])")

TWO_LETTERS = re.compile(r"[^\W\d_].*?[^\W\d_]")

ENDS = frozenset(".,;:!?…”’\"'»)–—-")
"""What the last character of a verse is that does not break off."""


class Repaired(NamedTuple):
    """Verses without marks, and what happened on the way."""

    verses: dict[Verse, str]
    counts: dict[str, int]


def repaired(verses: Mapping[Verse, str], known: Translation) -> Repaired:
    """The verses of one text in Unicode NFC, with single spaces and without marks, notes, titles or broken verses.

    In this order: character references are resolved and marks of this text cut out; tags, numbers of other editions
    and brackets are cut out, whose words stay; in Chinese, spaces between Chinese characters go; verses with fewer
    than two letters (`a`, `-`, numbers), and in books that are cut short those that end in no mark, are left out.

    Args:
        verses: what a file holds.
        known: what is known of it.
    """
    counts: dict[str, int] = {}
    kept: dict[Verse, str] = {}

    def count(rule: str) -> None:
        counts[rule] = counts.get(rule, 0) + 1

    for verse, text in verses.items():
        if "&" in text:
            text = html.unescape(text)
        text = " ".join(INVISIBLE.sub("", unicodedata.normalize("NFC", text)).split())
        for repair in known.repairs + (GENERAL if _ANY_GENERAL.search(text) else ()):
            if repair.opens_psalm and not (verse[0] == "PSA" and verse[2] == 1):
                continue
            text, found = repair.pattern.subn("", text)
            if found:
                count(repair.rule)
        if known.script == "Hant":
            text, found = HAN_SPACES.subn("", text)
            if found:
                count("spaces between Chinese characters cut out")
        text = " ".join(text.split())
        if not TWO_LETTERS.search(text):
            count("verses without words left out")
        elif verse[0] in known.cut_short and text[-1] not in ENDS:
            count("verses that break off left out")
        elif not known.english_psalms and verse[0] == "PSA":
            count("psalms left out")
        else:
            kept[verse] = text
    return Repaired(kept, counts)
