"""XTREME's tagging files and CoNLL-U: what is read, what is refused, and every real file."""

import gzip
import os
import re
from pathlib import Path

import pytest

from mtlbench.errors import UsageError
from mtlbench.tasks.xtreme.tagging import conllu, tsv
from mtlbench.tasks.xtreme.tagging.sentences import ENTITIES, UPOS, Sentence

REAL = Path(os.environ.get("MTLBENCH_DATA", "/nowhere"))


def file(tmp_path, content, name="dev-en.tsv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(read, *arguments):
    with pytest.raises(UsageError) as caught:
        read(*arguments)
    return str(caught.value)


TWO = [Sentence(("the", "dog"), ("DET", "NOUN")), Sentence(("it",), ("PRON",))]


@pytest.mark.parametrize(
    "content",
    [
        "the\tDET\ndog\tNOUN\n\nit\tPRON\n\n",
        "the\tDET\ndog\tNOUN\n\n\n\nit\tPRON",
        "\nthe\tDET\ndog\tNOUN\n  \nit\tPRON\n",
        "the\tDET\r\ndog\tNOUN\r\n\r\nit\tPRON\r\n",
        "\ufeffthe\tDET\ndog\tNOUN\n\nit\tPRON\n",
    ],
)
def test_line_ends_byte_order_mark_and_empty_lines_change_nothing(tmp_path, content):
    assert tsv.read(file(tmp_path, content), UPOS) == TWO
    assert tsv.read(file(tmp_path, gzip.compress(content.encode()), "dev-en.tsv.gz"), UPOS) == TWO


def test_separators_of_other_kinds_are_characters_of_a_word(tmp_path):
    word = "a\u2028b\u0085c\u00a0d\x0ce\u200c"
    assert tsv.read(file(tmp_path, f"{word}\tX\n"), UPOS) == [Sentence((word,), ("X",))]


def test_words_without_tags_are_a_file_without_labels(tmp_path):
    assert tsv.read(file(tmp_path, "the\ndog\n\nit\n"), UPOS) == [Sentence(s.words, ()) for s in TWO]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the\tDET\ndog NOUN\n", r"line 2 \('dog NOUN'\) has 0 tabs, and expected is a word, one tab and a tag"),
        ("the\tDET\ndog\tNOUN\tx\n", r"line 2 .* has 2 tabs"),
        ("the\ndog\tNOUN\n", r"line 2 .* has 1 tabs, and expected is a word alone"),
        ("the DET\n", r"line 1 \('the DET'\) has a space in its word"),
        ("the\tDET\n\tNOUN\n", r"line 2 .* has no text for its word"),
        ("the\tDET\ndog\tNUON\n", r"line 2: Unknown tag 'NUON'. Did you mean 'NOUN'\?"),
        ("the\tDET\ndog\t\n", r"line 2: Unknown tag ''"),
        ("the\tDET\ndog\tNOUN \n", r"line 2: Unknown tag 'NOUN '"),
        ("\n\n", "it has no sentence"),
        (b"the\tDET\nd\xffg\tNOUN\n", "line 2 is not UTF-8: byte 0xff"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name_and_line(tmp_path, content, message):
    path = file(tmp_path, content)
    told = refusal(tsv.read, path, UPOS)
    assert told.startswith(f"{path} is not usable")
    assert re.search(message, told)


def test_a_label_of_another_problem_is_unknown(tmp_path):
    assert "Unknown tag 'B-MISC'" in refusal(tsv.read, file(tmp_path, "a\tB-PER\nb\tB-MISC\n"), ENTITIES)


# --- CoNLL-U -------------------------------------------------------------------------------------------------


def rows(*words):
    """Lines of CoNLL-U from `id form tag head`."""
    lines = []
    for word in words:
        number, form, tag, head = word.split("|")
        lines.append("\t".join([number, form, "_", tag, "_", "_", head, "_", "_", "_"]))
    return "\n".join(["# sent_id = 1", *lines, "", ""])


def parsed(tmp_path, *words, language="xx"):
    return conllu.read(file(tmp_path, rows(*words), "xx_a-ud-dev.conllu"), language)


def test_a_multi_word_token_has_its_form_and_the_tag_of_its_highest_word(tmp_path):
    words = ["1|il|PRON|2", "2|va|VERB|0", "3-4|du|_|_", "3|de|ADP|5", "4|le|DET|5", "5|pont|NOUN|2"]
    assert parsed(tmp_path, *words) == [Sentence(("il", "va", "du", "pont"), ("PRON", "VERB", "ADP", "NOUN"))]
    words = ["1-2|dámelo|_|_", "1|da|VERB|0", "2|lo|PRON|1"]
    assert parsed(tmp_path, *words) == [Sentence(("dámelo",), ("VERB",))]
    assert parsed(tmp_path, "1-2|x|_|_", "1|a|NOUN|2", "2|b|AUX|0") == [Sentence(("x",), ("AUX",))]


@pytest.mark.parametrize(("language", "tag"), [("xx", "PRON"), ("it", "ADV"), ("fr", "PRON")])
def test_of_words_that_stand_equally_high_the_first_in_the_languages_precedence_counts(tmp_path, language, tag):
    words = ["1|x|VERB|0", "2-3|yz|_|_", "2|y|PRON|1", "3|z|ADV|1"]
    assert parsed(tmp_path, *words, language=language)[0].tags == ("VERB", tag)


def test_empty_nodes_are_not_read_and_spaces_and_joiners_inside_forms_are_removed(tmp_path):
    words = ["0.1|x|VERB|_", "1|chiến tranh|NOUN|0", "1.1|has|VERB|_", "2|می\u200cشود|VERB|1"]
    assert parsed(tmp_path, *words) == [Sentence(("chiếntranh", "میشود"), ("NOUN", "VERB"))]


def test_a_sentence_of_which_nearly_no_word_is_written_is_left_out(tmp_path):
    kept = parsed(tmp_path, "1|_|X|0", "2|a|X|1", "3|b|X|1")
    assert [sentence.words for sentence in kept] == [("_", "a", "b")]
    both = rows("1|_|X|0", "2|a|X|1") + rows("1|b|X|0")
    assert conllu.read(file(tmp_path, both, "x.conllu"), "xx") == [Sentence(("b",), ("X",))]


def test_heads_in_a_circle_give_some_tag_of_the_token(tmp_path):
    assert parsed(tmp_path, "1-2|ab|_|_", "1|a|NOUN|2", "2|b|VERB|1")[0].tags == ("VERB",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\tx\t_\tX\n", r"line 1 .* has 4 columns, and expected are 10"),
        (rows("1|a|X|0", "3|b|X|1"), r"line 3 .* the id 3 does not follow on 1"),
        (rows("1|a|X|0", "x|b|X|1"), r"line 3 .* has the id 'x'"),
        (rows("1| |X|0"), "line 2 .* has no form"),
        (rows("1|a|NUON|0"), "line 2: Unknown part of speech 'NUON'. Did you mean 'NOUN'"),
        (rows("1|a|X|0", "2|b|X|9"), "line 4: word 2 of the sentence before has the head 9"),
        (rows("1|a|X|y"), "line 2 .* has the head 'y', which is no number"),
        (rows("1-3|ab|_|_", "1|a|X|0", "2|b|X|1"), "line 5: the range 1-3 ends after its sentence"),
        (rows("1-2|ab|_|_", "2-3|bc|_|_"), "line 3 .* does not follow"),
        ("# text\n\n", "it has no sentence"),
    ],
)
def test_a_damaged_treebank_is_refused_with_file_and_line(tmp_path, content, message):
    path = file(tmp_path, content, "xx_a-ud-dev.conllu")
    told = refusal(conllu.read, path, "xx")
    assert told.startswith(f"{path} is not usable")
    assert re.search(message, told)


# --- the real files ------------------------------------------------------------------------------------------

COUNTS = {"udpos": {"train": 134_156, "dev": 71_235, "test": 76_544}, "panx": {"train": 348_300, "dev": 143_300}}
SOME = {
    ("udpos", "train", "en"): 21_253,
    ("udpos", "dev", "de"): 19_233,
    ("udpos", "train", "kk"): 31,
    ("udpos", "test", "yo"): 100,
    ("udpos", "test", "zh"): 3_455,
    ("panx", "train", "jv"): 100,
    ("panx", "dev", "sw"): 1_000,
    ("panx", "train", "et"): 15_000,
}
TREEBANKS = {
    "UD_Afrikaans-AfriBooms": (1315, 194, 425),
    "UD_English-EWT": (12543, 2002, 2077),
    "UD_English-LinES": (3176, 1032, 1035),
    "UD_Estonian-EWT": (1116, None, 546),
    "UD_French-Sequoia": (2231, 412, 456),
    "UD_Greek-GDT": (1662, 403, 456),
    "UD_Hungarian-Szeged": (910, 441, 449),
    "UD_Italian-ParTUT": (1781, 156, 153),
    "UD_Kazakh-KTB": (31, None, 1047),
    "UD_Korean-GSD": (4400, 950, 989),
    "UD_Lithuanian-HSE": (153, 55, 55),
    "UD_Marathi-UFAL": (373, 46, 47),
    "UD_Tamil-TTB": (400, 80, 120),
    "UD_Telugu-MTG": (1051, 131, 146),
    "UD_Turkish-IMST": (3664, 988, 983),
    "UD_Vietnamese-VTB": (1400, 800, 800),
    "UD_Yoruba-YTB": (None, None, 100),
}
"""Sentences in train, dev and test, as their publishers count them."""
WHOLE = ("Afrikaans-AfriBooms", "Greek-GDT", "Hungarian-Szeged", "Kazakh-KTB", "Marathi-UFAL", "Telugu-MTG")
"""The only treebanks of their languages, with Vietnamese."""


def real(folder, pattern):
    found = sorted((REAL / folder).glob(pattern))
    if not found:
        pytest.skip(f"{folder} is not below MTLBENCH_DATA")
    return found


@pytest.mark.parametrize(("problem", "tags"), [("udpos", UPOS), ("panx", ENTITIES)])
def test_every_real_file_of_xtreme_is_read_and_has_the_sentences_that_it_should(problem, tags):
    totals: dict[str, int] = {}
    for path in real(f"xtreme/{problem}", "*.tsv*"):
        split, language = path.name.split(".")[0].split("-")
        sentences = tsv.read(path, tags)
        labelled = (problem, split) != ("panx", "test")
        assert all(len(s.tags) == (len(s.words) if labelled else 0) for s in sentences)
        assert len(sentences) == SOME.get((problem, split, language), len(sentences))
        totals[split] = totals.get(split, 0) + len(sentences)
    assert totals.items() >= COUNTS[problem].items()


def test_every_real_treebank_is_read_and_equals_xtremes_file_where_that_is_made_of_it_alone():
    compared = 0
    for path in real("ud-treebanks-v2.5", "UD_*/*.conllu*"):
        language, split = path.name.split("_")[0], path.name.split(".")[0].split("-")[-1]
        sentences = conllu.read(path, language)
        assert len(sentences) == TREEBANKS[path.parent.name][("train", "dev", "test").index(split)]
        theirs = REAL / "xtreme" / "udpos" / f"{split}-{language}.tsv.gz"
        if path.parent.name.endswith((*WHOLE, "Vietnamese-VTB", "Yoruba-YTB")) and theirs.exists():
            assert sentences == tsv.read(theirs, UPOS)
            compared += 1
    assert compared == 21
