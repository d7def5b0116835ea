"""NTREX-128: 1,997 sentences of English news in many languages, an extra test set and the probe set of geometry.

The official files are read as they are (https://github.com/MicrosoftTranslator/NTREX, `NTREX-128`): one sentence a
line, and line n of each file translates line n of `newstest2019-src.eng.txt`. No line is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mtlbench.catalogue.data import DataSet, datasets, find, locate

from ..corpus import Bitext
from .lines import bitext, read

SOURCE = "newstest2019-src.eng.txt"

REFERENCES = {
    "afr": "af",
    "amh": "am",
    "arb": "ar ara",
    "aze-Latn": "az aze azj",
    "bel": "be",
    "ben": "bn",
    "bos": "bs",
    "bul": "bg",
    "cat": "ca",
    "ces": "cs",
    "cym": "cy",
    "dan": "da",
    "deu": "de",
    "ell": "el",
    "est": "et ekk",
    "eus": "eu",
    "ewe": "ee",
    "fas": "fa pes",
    "fil": "tl tgl",  # Filipino is standard Tagalog
    "fin": "fi",
    "fra": "fr",
    "gle": "ga",
    "glg": "gl",
    "guj": "gu",
    "hau": "ha",
    "heb": "he",
    "hin": "hi",
    "hrv": "hr",
    "hun": "hu",
    "hye": "hy",
    "ibo": "ig",
    "ind": "id",
    "isl": "is",
    "ita": "it",
    "jpn": "ja",
    "kan": "kn",
    "kat": "ka",
    "kaz": "kk",
    "khm": "km",
    "kin": "rw",
    "kir": "ky",
    "kor": "ko",
    "lav": "lv lvs",
    "lit": "lt",
    "mal": "ml",
    "mar": "mr",
    "mkd": "mk",
    "mlg": "mg plt",
    "mlt": "mt",
    "mon": "mn khk",
    "msa": "ms zsm",
    "mya": "my",
    "nep": "ne npi",
    "nld": "nl",
    "nno": "nn",
    "nob": "nb no nor",
    "pan": "pa",
    "pol": "pl",
    "por": "pt",
    "pus": "ps",
    "ron": "ro",
    "rus": "ru",
    "sin": "si",
    "slk": "sk",
    "slv": "sl",
    "som": "so",
    "spa": "es",
    "sqi": "sq als",
    "srp-Cyrl": "srp",  # OPUS-100 mixes both scripts, so `sr` has none
    "srp-Latn": "",
    "swa": "sw swh",
    "swe": "sv",
    "tam": "ta",
    "tat": "tt",
    "tel": "te",
    "tgk-Cyrl": "tg tgk",
    "tha": "th",
    "tuk": "tk",
    "tur": "tr",
    "uig": "ug",
    "ukr": "uk",
    "urd": "ur",
    "vie": "vi",
    "wol": "wo",
    "xho": "xh",
    "yor": "yo",
    "zho-CN": "zh",
    "zho-TW": "zho",  # the Bible's Chinese, in traditional script
    "zul": "zu",
}
"""Code of a reference file -> other codes (ISO 639-1, 639-3) of its language; its own code counts too.

A language that the corpora write in another script than the file has no code here. Files without a known checksum
are read where they are, and not fetched.
"""

_FILES = {code: file for file, others in REFERENCES.items() for code in (file, *others.split())}


def extra(root: Path | None, languages: Sequence[str]) -> dict[str, Bitext]:
    """The test set in those of `languages` that it has and whose files are under the data root; else nothing.

    Raises:
        UsageError: a file that is there and damaged, or whose lines are not those of the English file.
        DataMissing: references without the English file.
    """
    dataset = datasets("nmt")["ntrex"]
    if not any(_reference(dataset, language, root) for language in languages):
        return {}
    english, foreign = probe(root, languages)
    return {language: Bitext(sentences, english) for language, sentences in foreign.items()}


def probe(root: Path | None, languages: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The same sentences in English and in those of `languages` that are there, by the code that asked for them.

    Raises:
        UsageError: a file that is there and damaged, or whose lines are not those of the English file.
        DataMissing: the English file is not under the data root.
    """
    dataset = datasets("nmt")["ntrex"]
    english = read(locate(dataset, SOURCE, root, "nmt"))
    foreign = {}
    for language in languages:
        if path := _reference(dataset, language, root):
            foreign[language] = bitext(read(path), english).foreign
    return english.sentences, foreign


def _reference(dataset: DataSet, language: str, root: Path | None) -> Path | None:
    file = _FILES.get(language)
    return find(dataset, f"newstest2019-ref.{file}.txt", root) if file else None
