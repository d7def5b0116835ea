"""The text that the encoder `tiny` is made from: the training text of the task, and Bibles in its languages."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mtlbench.catalogue.data import datasets

from .._text.bibles.files import verses

ISO_639_3: Mapping[str, str] = dict(
    re.findall(
        r"(\w+)=(\w+)",
        "af=afr ar=ara az=aze bg=bul bn=ben cs=ces da=dan de=deu el=ell en=eng es=spa et=est eu=eus fa=fas fi=fin "
        "fr=fra gu=guj he=heb hi=hin hu=hun hy=hye id=ind it=ita ja=jpn jv=jav ka=kat kk=kaz ko=kor lt=lit lv=lav "
        "mg=mlg ml=mal mr=mar ms=msa my=mya nb=nob nl=nld pa=pan pl=pol pt=por qu=que ro=ron ru=rus sr=srp sv=swe "
        "sw=swa ta=tam te=tel th=tha tl=tgl tr=tur uk=ukr ur=urd vi=vie wo=wol yo=yor zh=zho zu=zul",
    )
)
"""XTREME's code of a language -> the code that the Bibles are known by."""

Text = Mapping[str, Sequence[Sequence[str]]]
"""Language -> sentences as words."""


def bibles(root: Path | None, languages: Collection[str], most: int) -> dict[str, list[list[str]]]:
    """Language -> at most so many verses, for the languages whose Bible is below the data root.

    Raises:
        UsageError: a damaged file; names file and line.
    """
    if root is None or most == 0:
        return {}
    declared = datasets("nmt")
    known = {ISO_639_3[code]: code for code in languages if code in ISO_639_3}
    found = verses(declared["bible_databases"], declared["bible_corpus"], root, known.keys(), most)
    return {known[code]: said for code, said in found.items()}


def joined(text: Text, more: Text) -> dict[str, Sequence[Sequence[str]]]:
    """Both texts of each language."""
    return {code: [*text.get(code, ()), *more.get(code, ())] for code in dict.fromkeys((*text, *more))}
