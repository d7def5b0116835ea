"""Scores of multilingual NMT: the library's numbers and signatures, and a tokeniser for every script."""

import importlib
import sys

import pytest
import sacrebleu

from mtlbench.errors import UsageError
from mtlbench.tasks.nmt.scoring import TOKENIZERS, Scorer, tokenizer

# By two-letter code: NTREX's code, and a sentence of several words.
WITHOUT_SPACES = {
    "ja": ("jpn", "猫はマットの上に座っていました。"),
    "zh": ("zho-CN", "猫坐在垫子上看着窗外的鸟。"),
    "th": ("tha", "แมวนั่งอยู่บนเสื่อ"),
    "lo": ("lao", "ແມວນັ່ງຢູ່ເທິງເສື່ອ"),
    "my": ("mya", "ကြောင်သည်ဖျာပေါ်တွင်ထိုင်နေသည်။"),
    "km": ("khm", "ឆ្មាអង្គុយលើកន្ទេល។"),
    "bo": ("bod", "ཞི་མི་གདན་སྟེང་ལ་བསྡད་འདུག"),
    "dz": ("dzo", "བྱི་ལི་གདན་གུ་སྡོད་དེ་ཡོད།"),
}
# By two-letter code: a three-letter code, and a mark at the end of sentences.
OWN_MARKS = {
    "hi": ("hin", "।"),
    "mr": ("mar", "।"),
    "ne": ("nep", "।"),
    "bn": ("ben", "।"),
    "as": ("asm", "।"),
    "pa": ("pan", "।"),
    "or": ("ori", "।"),
    "gu": ("guj", "।"),
    "ta": ("tam", "।"),
    "te": ("tel", "।"),
    "kn": ("kan", "।"),
    "ml": ("mal", "।"),
    "si": ("sin", "෴"),
    "ar": ("arb", "؟"),
    "fa": ("fas", "؟"),
    "ur": ("urd", "۔"),
    "ps": ("pus", "؟"),
    "sd": ("snd", "؟"),
    "ug": ("uig", "؟"),
    "am": ("amh", "።"),
    "ti": ("tir", "።"),
    "hy": ("hye", "։"),
}
# The languages of NTREX with text in one of the other corpora, and those of TED-8.
NTREX = """
afr amh arb aze-Latn ben bul ces dan deu ell est eus ewe fas fil fin fra guj heb hin hrv hun hye ind ita jpn kat kaz
khm kor lav lit mal mar mlg mon msa mya nep nld nob pan pol por ron rus slk slv som spa sqi srp-Latn swa swe tam tel
tha ukr urd wol xho yor zho-CN zul
"""
TED = "aze tur bel rus glg por slk ces bos mar hin mkd ell bul fra kor"
LISTED = set(f"{NTREX} {TED}".split())

REFERENCES = ["A man rides a red bike down the street.", "Two dogs, one brown, are playing.", "He said: “Stop!”", "x"]
HYPOTHESES = ["A man is riding a red bike down the road.", "Two dogs are playing, one brown.", "", "x"]


@pytest.mark.parametrize("language", ["en", "de", "zh", "jpn", "hin"])
def test_scores_are_those_of_the_library(language):
    scores = Scorer(language).score(HYPOTHESES, REFERENCES)
    bleu = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES], tokenize=tokenizer(language))
    assert scores == {"bleu": bleu.score, "chrf": sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score}
    assert scores["bleu"] > 0


@pytest.mark.parametrize("language", ["en", "zh", "jpn", "hin"])
def test_signatures_before_scoring_are_those_of_a_library_metric_that_has_scored(language):
    scorer = Scorer(language)
    before = scorer.signatures()
    bleu, chrf = sacrebleu.BLEU(tokenize=tokenizer(language)), sacrebleu.CHRF()
    for metric in (bleu, chrf):
        metric.corpus_score(HYPOTHESES, [REFERENCES])
    assert before == {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}
    scorer.score(HYPOTHESES, REFERENCES)
    assert scorer.signatures() == before


def test_the_signature_of_english_is_the_published_form():
    expected = f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    assert Scorer("en").signatures()["bleu"] == expected


def test_the_references_themselves_score_100_and_empty_translations_0():
    references = [f"{sentence} And a few words more." for sentence in REFERENCES]
    assert Scorer("en").score(references, references) == pytest.approx({"bleu": 100.0, "chrf": 100.0})
    assert Scorer("en").score([""] * 4, references) == {"bleu": 0.0, "chrf": 0.0}


def test_a_scorer_remembers_nothing_of_earlier_sentences():
    scorer = Scorer("en")
    first = scorer.score(HYPOTHESES, REFERENCES)
    scorer.score(["a b c d e"], ["a b c d f"])
    assert scorer.score(HYPOTHESES, REFERENCES) == first


@pytest.mark.parametrize(
    "code", [code for language, (ntrex, _) in WITHOUT_SPACES.items() for code in (language, ntrex)]
)
def test_a_sentence_without_spaces_counts_for_what_is_right_in_it(code):
    sentence = next(text for language, (ntrex, text) in WITHOUT_SPACES.items() if code in (language, ntrex))
    nearly = sentence[:-2]
    # As a single word it would be wrong altogether.
    assert sacrebleu.corpus_bleu([nearly], [[sentence]]).score == 0
    assert Scorer(code).score([nearly], [sentence])["bleu"] > 50


@pytest.mark.parametrize("code", [code for language, (other, _) in OWN_MARKS.items() for code in (language, other)])
def test_a_word_is_the_same_with_and_without_the_marks_of_its_script(code):
    mark = next(mark for language, (other, mark) in OWN_MARKS.items() if code in (language, other))
    with_mark, without = f"one two three four{mark} five", "one two three four five"
    bare = f"one two three four {mark} five"
    assert Scorer(code).score([bare], [with_mark])["bleu"] == pytest.approx(100)
    assert Scorer(code).score([without], [with_mark])["bleu"] > sacrebleu.corpus_bleu([without], [[with_mark]]).score


@pytest.mark.parametrize("sentence", ["नमस्ते दुनिया कैसे हो", "ನಮಸ್ಕಾರ ಜಗತ್ತು ಹೇಗಿದೆ ಇಂದು", "ကြောင် က", "سَلَامٌ عَلَى"])
def test_vowel_signs_do_not_split_words(sentence):
    from sacrebleu.tokenizers.tokenizer_intl import TokenizerV14International

    assert TokenizerV14International()(sentence) == sentence


def test_only_scripts_with_spaces_keep_the_default():
    foreign = {ntrex for ntrex, _ in [*WITHOUT_SPACES.values(), *OWN_MARKS.values()]}
    assert {language for language in LISTED if tokenizer(language) == "13a"} == LISTED - foreign


@pytest.mark.parametrize(
    ("code", "name"),
    [
        *[("zh-CN", "zh"), ("zh_TW", "zh"), ("zho_Hans", "zh"), ("ZH", "zh"), ("cmn", "zh")],
        *[("ko", "13a"), ("kor", "13a"), ("srp-Latn", "13a"), ("fra-CA", "13a"), ("pt_br", "13a")],
        *[("an-artificial-one", "13a"), ("", "13a")],
    ],
)
def test_codes_are_read_without_region_and_script(code, name):
    assert tokenizer(code) == name


def test_no_language_has_two_tokenisers():
    codes = " ".join(TOKENIZERS.values()).split()
    assert len(codes) == len(set(codes))


def test_unequal_numbers_of_sentences_are_refused_with_both_numbers():
    with pytest.raises(UsageError, match=r"3 translations .* 4 references"):
        Scorer("en").score(HYPOTHESES[:3], REFERENCES)


def test_no_sentences_are_refused():
    with pytest.raises(UsageError, match="no sentences"):
        Scorer("en").score([], [])


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    monkeypatch.delitem(sys.modules, "mtlbench.tasks.nmt.scoring")
    with pytest.raises(UsageError, match=r'pip install "mtlbench\[nlp\]"'):
        importlib.import_module("mtlbench.tasks.nmt.scoring")
