"""Bible texts in their two public layouts, read verse by verse: CSV of bible_databases, CES XML of bible-corpus."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat
from xml.parsers.expat import errors

from mtlbench.errors import UsageError

BOOKS = dict(
    re.findall(
        r"(\S+)=(\S+)",
        "GEN=Genesis EXO=Exodus LEV=Leviticus NUM=Numbers DEU=Deuteronomy JOS=Joshua JDG=Judges RUT=Ruth "
        "1SA=I_Samuel 2SA=II_Samuel 1KI=I_Kings 2KI=II_Kings 1CH=I_Chronicles 2CH=II_Chronicles EZR=Ezra "
        "NEH=Nehemiah EST=Esther JOB=Job PSA=Psalms PRO=Proverbs ECC=Ecclesiastes SON=Song_of_Solomon ISA=Isaiah "
        "JER=Jeremiah LAM=Lamentations EZE=Ezekiel DAN=Daniel HOS=Hosea JOE=Joel AMO=Amos OBA=Obadiah JON=Jonah "
        "MIC=Micah NAH=Nahum HAB=Habakkuk ZEP=Zephaniah HAG=Haggai ZEC=Zechariah MAL=Malachi "
        "MAT=Matthew MAR=Mark LUK=Luke JOH=John ACT=Acts ROM=Romans 1CO=I_Corinthians 2CO=II_Corinthians "
        "GAL=Galatians EPH=Ephesians PHI=Philippians COL=Colossians 1TH=I_Thessalonians 2TH=II_Thessalonians "
        "1TI=I_Timothy 2TI=II_Timothy TIT=Titus PHM=Philemon HEB=Hebrews JAM=James 1PE=I_Peter 2PE=II_Peter "
        "1JO=I_John 2JO=II_John 3JO=III_John JUD=Jude REV=Revelation_of_John",
    )
)
"""The 66 books in canonical order: code in CES XML -> name in CSV, with `_` for a space."""

CODES = {name.replace("_", " "): code for code, name in BOOKS.items()}
NUMBERS = {str(number): number for number in range(1, 1000)}
"""How chapters and verses are written."""

LARGEST = 1 << 27
"""Bytes of one text, unpacked; the largest official file holds 7 million."""

INVALID_TOKEN = errors.codes[errors.XML_ERROR_INVALID_TOKEN]
"""Expat's error for bytes that are no text in the file's encoding, among others."""

HEADER = ["Book", "Chapter", "Verse", "Text"]
SEGMENT = re.compile(r"b\.([A-Z0-9]+)\.([0-9]+)\.([0-9]+)")

Verse = tuple[str, int, int]
"""Code of the book, chapter, verse: `("MAT", 1, 1)`."""


class Text(NamedTuple):
    """One text as its file has it."""

    verses: dict[Verse, str]
    """The verses of the 66 books, in the order of the file, empty ones left out."""
    counts: dict[str, int]
    """What was left out, by rule."""
    language: str = ""
    """The ISO 639-2 code in the header of a CES file."""
    name: str = ""
    """The English name of the language in the header of a CES file."""


def read_csv(path: Path) -> Text:
    """The text in a CSV file with the header `Book,Chapter,Verse,Text`, plain or `.gz`.

    Books beside the 66, rows without text and a verse's second row are left out and counted.

    Raises:
        UsageError: no UTF-8, another header, a row without four fields, a chapter or verse that is no positive
            number, or a quotation mark that is never closed; the message names file and line.
    """
    content = _decoded(path, _content(path))
    found = _Collected()
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        header = next(rows, [])
        if header != HEADER:
            raise _unreadable(path, 1, f"the first line must be {','.join(HEADER)} and is {','.join(header)[:80]!r}")
        for row in rows:
            if len(row) != 4:
                raise _unreadable(path, rows.line_num, f"a row has 4 fields and this one {len(row)}")
            book, chapter, verse, text = row
            if chapter not in NUMBERS or verse not in NUMBERS:
                raise _unreadable(
                    path,
                    rows.line_num,
                    f"chapter and verse are numbers up to 999, not {chapter!r} and {verse!r}",
                )
            found.add(CODES.get(book), NUMBERS[chapter], NUMBERS[verse], text)
    except csv.Error as error:
        raise _unreadable(path, rows.line_num, f"it is not CSV ({error})") from error
    return Text(found.verses, found.counts)


def read_ces(path: Path) -> Text:
    """The text in a CES XML file, one `<seg id="b.MAT.1.1" type="verse">` for each verse, plain or `.gz`.

    Nothing outside the file is ever read. A file that declares entities is refused, since those can grow without
    bound and no such file needs them. Books beside the 66, empty verses and a verse's second segment are left out
    and counted.

    Raises:
        UsageError: it is no well-formed XML, declares an entity, has a verse with another kind of id, or none at
            all; the message names file and line.
    """
    found = _Collected()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    inside: str | None = None
    pieces: list[str] = []
    language = name = ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal inside, language
        if tag == "seg" and attributes.get("type", "verse") == "verse":
            inside = attributes.get("id", "")
            pieces.clear()
        elif tag == "language" and not language:
            inside, language = tag, attributes.get("iso639", "")
            pieces.clear()

    def end(tag: str) -> None:
        nonlocal inside, name
        if tag == "language" and inside == tag:
            name, inside = "".join(pieces).strip(), None
        elif tag == "seg" and inside is not None:
            parts = SEGMENT.fullmatch(inside)
            if parts is None or parts[2] not in NUMBERS or parts[3] not in NUMBERS:
                raise _unreadable(path, parser.CurrentLineNumber, f"a verse's id is like b.MAT.1.1, not {inside!r}")
            code = parts[1] if parts[1] in BOOKS else None
            found.add(code, NUMBERS[parts[2]], NUMBERS[parts[3]], "".join(pieces))
            inside = None

    def text(piece: str) -> None:
        if inside is not None:
            pieces.append(piece)

    def entity(declared: str, *_: object) -> None:
        raise _unreadable(path, parser.CurrentLineNumber, f"it declares the entity {declared!r}, which is not allowed")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.EntityDeclHandler = entity
    content = _content(path)
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        if error.code == INVALID_TOKEN:
            _decoded(path, content)
        raise _unreadable(path, error.lineno, f"it is not well-formed XML ({expat.ErrorString(error.code)})") from error
    if not found.verses:
        raise _unreadable(path, parser.CurrentLineNumber, 'it has no verse: no <seg type="verse"> with text')
    return Text(found.verses, found.counts, language, name)


class _Collected:
    """Verses and what was left out."""

    def __init__(self) -> None:
        self.verses: dict[Verse, str] = {}
        self.counts: dict[str, int] = {}

    def add(self, book: str | None, chapter: int, verse: int, text: str) -> None:
        if not text or text.isspace():
            rule = "empty slots"
        elif book is None:
            rule = "books that are not in the English text"
        elif (book, chapter, verse) in self.verses:
            rule = "verses that stand twice"
        else:
            self.verses[book, chapter, verse] = text
            return
        self.counts[rule] = self.counts.get(rule, 0) + 1


def _content(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path} cannot be unpacked ({error}). Get it again from its official source.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}).") from error
    if len(content) > LARGEST:
        raise UsageError(f"{path} holds more than {LARGEST} bytes, which no Bible does. Get it again.")
    return content


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _unreadable(path, line, f"it is not UTF-8 ({error.reason})") from error


def _unreadable(path: Path, line: int, reason: str) -> UsageError:
    return UsageError(f"{path}, line {line}: {reason}. Mend the file, or get it again from its official source.")
