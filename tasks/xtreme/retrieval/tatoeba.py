"""The files of Tatoeba: up to 1,000 sentences of a language and their English translations, line by line.

LASER publishes them as `tatoeba.XXX-eng.XXX` and `tatoeba.XXX-eng.eng`. XTREME's script copies the first to `LL-en.LL`
and sorts the lines of the second into `LL-en.en`, so that nobody scores by accident: with such files alone there is
nothing to score by.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mtlbench.catalogue.data import ENVIRONMENT, datasets, visible
from mtlbench.errors import DataMissing, UsageError

from ..._text.languages import chosen
from ..._text.lines import lines, stream, unusable
from ..corpus import Corpus

LASER: Mapping[str, str] = dict(
    re.findall(
        r"(\w+)=(\w+)",
        "af=afr ar=ara bg=bul bn=ben de=deu el=ell es=spa et=est eu=eus fa=pes fi=fin fr=fra he=heb hi=hin hu=hun "
        "id=ind it=ita ja=jpn jv=jav ka=kat kk=kaz ko=kor ml=mal mr=mar nl=nld pt=por ru=rus sw=swh ta=tam te=tel "
        "th=tha tl=tgl tr=tur ur=urd vi=vie zh=cmn",
    )
)
"""XTREME's code of each of its 36 languages -> LASER's (XTREME, `utils_preprocess.py`)."""

ARCHIVE = "tatoeba*.tar.gz"
LARGEST = 1 << 23
"""Bytes of a file in an archive, and a thousand times so many of all that are looked through."""
_MEMBER = re.compile(r"tatoeba\.([a-z]{3})-eng\.([a-z]{3})")


class Pair(NamedTuple):
    """A sentence and its English translation."""

    text: str
    english: str


class Half(NamedTuple):
    """The lines of one file, and what it is called."""

    name: str
    lines: Sequence[str]


def load(root: Path | None, languages: Sequence[str] | None, wanted_by: str) -> Corpus[Pair]:
    """The pairs of each language as the split `test`, and as `val` again: nothing is selected by them.

    Args:
        root: the data root, or None where none was given.
        languages: XTREME's codes; None for all that are there.
        wanted_by: the `task/variant`, for messages.

    Raises:
        DataMissing: there is no file, or none of a language that was asked for.
        UsageError: an unknown language; files of different lengths, an empty line, text that is not UTF-8, an archive
            that cannot be read; names file and line.
    """
    known = chosen(languages, list(LASER), wanted_by)
    pairs: dict[str, list[Pair]] = {}
    found = _found(root, known)
    for code in known:
        if code in found:
            pairs[code] = _paired(*found[code])
    absent = [code for code in known if code not in pairs]
    if absent and (languages is not None or not pairs):
        raise _missing(root, absent if pairs else [], wanted_by)
    told = f"left out, since there are no files of them: {', '.join(absent)}"
    return Corpus(
        {"train": {}, "val": pairs, "test": pairs},
        unlabelled={},
        sources={code: {"val": "test"} for code in pairs},
        notices=[told] if absent else [],
        facts={"left_out": absent} if absent else {},
    )


def _found(root: Path | None, languages: Sequence[str]) -> dict[str, tuple[Half, Half]]:
    """Language -> its sentences and the English ones: LASER's files, else those in an archive, else XTREME's."""
    halves: dict[tuple[str, str], Half] = {}
    for place in _folders(root):
        for code in languages:
            own = LASER[code]
            for side in (own, "eng"):
                for path in visible(place, f"tatoeba.{own}-eng.{side}*"):
                    if path.name.removesuffix(".gz") == f"tatoeba.{own}-eng.{side}" and path.is_file():
                        halves.setdefault((code, side), Half(str(path), [*stream(path)]))
        wanted = {LASER[code]: code for code in languages if (code, "eng") not in halves}
        for path in visible(place, ARCHIVE):
            if wanted and path.is_file():
                for language, side, half in _members(path):
                    if language in wanted and side in (language, "eng"):
                        halves.setdefault((wanted[language], side), half)
    found = {
        code: (halves[code, LASER[code]], halves[code, "eng"])
        for code in languages
        if (code, LASER[code]) in halves and (code, "eng") in halves
    }
    for place in _folders(root):
        for code in (code for code in languages if code not in found):
            sentences, english = (_plain(place, f"{code}-en.{side}") for side in (code, "en"))
            if sentences and english:
                _require_aligned(english)
                found[code] = sentences, english
    return found


def _folders(root: Path | None) -> list[Path]:
    return [] if root is None else [root / folder for folder in datasets("xtreme")["tatoeba"].folders]


def _plain(folder: Path, name: str) -> Half | None:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return Half(str(path), [*stream(path)])
    return None


def _members(path: Path) -> Iterator[tuple[str, str, Half]]:
    """LASER's code, side and content of the files in an archive, read in memory; a link is no file."""
    looked = 0
    seen: set[str] = set()
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                looked += member.size
                if looked > 1000 * LARGEST:
                    raise unusable(path, f"it holds more than {1000 * LARGEST / 1e9:.0f} GB")
                match = _MEMBER.fullmatch(member.name.rpartition("/")[2])
                if match is None or not member.isreg():
                    continue
                where = f"{path}, {member.name}"
                if member.size > LARGEST:
                    raise unusable(path, f"{member.name} in it has {member.size:,} bytes")
                if match[0] in seen:
                    raise unusable(path, f"it holds {match[0]} twice")
                seen.add(match[0])
                file = archive.extractfile(member)
                assert file is not None  # it is a regular file
                yield match[1], match[2], Half(where, [*lines(io.BytesIO(file.read()), where)])
    except (tarfile.TarError, EOFError, OSError) as error:
        raise unusable(path, f"it cannot be unpacked ({error})") from error


def _paired(own: Half, english: Half) -> list[Pair]:
    if len(own.lines) != len(english.lines):
        raise UsageError(
            f"{own.name} has {len(own.lines)} lines and {english.name} {len(english.lines)}: line n of one is the "
            "translation of line n of the other."
        )
    for half in (own, english):
        for number, line in enumerate(half.lines, 1):
            if not line.strip():
                raise UsageError(f"{half.name} is not usable: line {number} is empty.")
        if not half.lines:
            raise UsageError(f"{half.name} is not usable: it has no line.")
    return [Pair(a.strip(), b.strip()) for a, b in zip(own.lines, english.lines, strict=True)]


def _require_aligned(english: Half) -> None:
    """Refuse what XTREME's script has sorted."""
    stripped = [line.strip() for line in english.lines]
    if len(stripped) > 1 and stripped == sorted(stripped):
        raise UsageError(
            f"{english.name} is not usable: its lines are in the order of the alphabet, as XTREME's script leaves "
            "them, so that it cannot be told which one translates which. Put LASER's own files beside it "
            "(tatoeba.XXX-eng.XXX and tatoeba.XXX-eng.eng): `mtlbench data fetch xtreme/tatoeba` gets them."
        )


def _missing(root: Path | None, languages: Sequence[str], wanted_by: str) -> DataMissing:
    dataset = datasets("xtreme")["tatoeba"]
    if root is None:
        looked = f"no data root is set: give data_root=DIR or set {ENVIRONMENT}"
    else:
        looked = f"no tatoeba.XXX-eng.XXX is in {' or '.join(map(str, _folders(root)))}"
    of = f" of {', '.join(languages)}" if languages else ""
    return DataMissing(
        f"{wanted_by} needs {dataset.title}{of}, and {looked}. Run `mtlbench data fetch {wanted_by} "
        f"data_root={root or 'DIR'}`, or put the files, or an archive {ARCHIVE} of them, into "
        f"{root or 'DIR'}/{dataset.folders[0]}."
    )
