"""What translation tells of its languages: trees, families, amounts of text, overlap of subwords."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mtlbench.catalogue.relation import require_of
from mtlbench.catalogue.variants import resolve
from mtlbench.catalogue.yaml_file import read_yaml
from mtlbench.tasks._families import GRAMMAR_TREE, TRAIN, TREE, generate
from mtlbench.tasks._text import genealogy
from mtlbench.tasks._text.bibles.texts import TRANSLATIONS
from mtlbench.tasks.nmt import NMT, corpora
from mtlbench.tasks.nmt.corpora import families as worlds
from mtlbench.tasks.nmt.corpora.multi30k import LANGUAGES
from mtlbench.tasks.nmt.corpora.ted8 import GROUPS
from mtlbench.tasks.nmt.corpus import Bitext, Corpus

SENTENCES = {"train": {language: 150 if size > 1000 else 60 for language, size in TRAIN.items()}, "val": 10, "test": 10}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(worlds, "generate", lambda **world: generate(**SENTENCES, **world))


def build(variant="multi30k", **options):
    overrides = {f"options.{key}": value for key, value in options.items()}
    return NMT(*resolve("nmt", variant, None, overrides), None, torch.device("cpu"))


def known(task):
    found = task.relations()
    require_of(found, len(task.objectives))
    return {relation.name: relation for relation in found}


def text(words, number=60):
    """Sentences of four of the words, and central ones of other words."""
    chosen = [[words[(7 * i + j * (3 + i % 5)) % len(words)] for j in range(4)] for i in range(number)]
    return Bitext([" ".join(one) for one in chosen], ["the " + "x" * (1 + i % 9) for i in range(number)])


def of_texts(monkeypatch, train, **facts):
    held = {code: text(["kalo", "miru"], 4) for code in train}
    monkeypatch.setattr(corpora, "load", lambda *_: Corpus({"train": train, "val": held, "test": held}, facts=facts))


def test_families_have_their_tree_family_by_family_first(small):
    task = build("families", vocabulary=500)
    found, languages = known(task), [pair.language for pair in task.data.pairs]
    first = task.relations()[0]
    assert (first.name, first.kind) == ("family", "label")
    assert first.values.tolist() == ["dalic"] * 3 + ["morian"] * 3 + ["tesic"] * 3 + ["ukaric"] * 3
    assert found["tree"].kind == "distance"
    assert found["tree"].values.tolist() == TREE.distances(languages).tolist()
    assert found["resource"].values.tolist() == [SENTENCES["train"][language] for language in languages]
    assert set(found) == {"family", "tree", "resource", "overlap"}


def test_crossed_families_have_both_trees_and_an_overlap_that_follows_words(small):
    task = build("families-crossed", vocabulary=500)
    found, languages = known(task), [pair.language for pair in task.data.pairs]
    assert found["lexicon_tree"].values.tolist() == TREE.distances(languages).tolist()
    assert found["grammar_tree"].values.tolist() == GRAMMAR_TREE.distances(languages).tolist()
    assert "tree" not in found
    assert found["family"].values.tolist()[:3] == ["dalic"] * 3
    assert found["grammar_family"].values.tolist()[:3] == ["norric", "sarric", "oskic"]
    upper = np.triu_indices(len(languages), 1)

    def correlation(measure, tree):
        return np.corrcoef(found[measure].values[upper], found[tree].values[upper])[0, 1]

    assert correlation("overlap", "lexicon_tree") < -0.7
    assert abs(correlation("overlap", "grammar_tree")) < 0.3


def test_some_languages_have_the_rows_of_the_tree_that_are_theirs(small):
    task = build("families-crossed", languages=["usti", "dalu", "mora"], vocabulary=500)
    found = known(task)
    languages = [pair.language for pair in task.data.pairs]
    assert sorted(languages) == ["dalu", "mora", "usti"]
    assert found["lexicon_tree"].values.tolist() == TREE.distances(languages).tolist()
    assert set(found["grammar_family"].values) == {"norric"}


def test_private_alphabets_leave_no_overlap_whatever_the_direction(small):
    for direction in ("x2en", "en2x"):
        found = known(build("families-private", direction=direction, vocabulary=1200))
        assert found["overlap"].values == pytest.approx(np.eye(12))
        assert "tree" in found


def test_both_directions_of_a_language_are_alike_but_in_direction(small):
    task = build("families", direction="both", vocabulary=500)
    found = known(task)
    assert found["direction"].values.tolist() == ["into"] * 12 + ["out of"] * 12
    for name, relation in found.items():
        if name == "direction":
            continue
        values = relation.values
        if values.ndim == 1:
            assert values[:12].tolist() == values[12:].tolist()
        else:
            assert values[:12, :12] == pytest.approx(values[12:, 12:])
            assert values[:12, :12] == pytest.approx(values[:12, 12:])
    assert np.diag(found["overlap"].values) == pytest.approx(1)


def test_overlap_is_the_bhattacharyya_coefficient_of_what_is_trained_on(monkeypatch):
    of_texts(
        monkeypatch,
        {
            "aa": text([f"ka{x}" for x in "lmnprst"]),
            "bb": text([f"ka{x}" for x in "lmnuvwz"]),
            "cc": text([f"yo{x}" for x in "ghjfqx"]),
            "dd": text([f"yo{x}" for x in "ghjfqx"]),
        },
    )
    task = build(vocabulary=330, direction="en2x")
    found = known(task)["overlap"].values
    shares = []
    for k in range(4):
        counts = np.zeros(task.data.subwords.size)
        for sentence in task.data.train[k].target.lists():
            np.add.at(counts, sentence, 1)
        shares.append(counts / counts.sum())
    wanted = [[np.sqrt(p * q).sum() for q in shares] for p in shares]
    assert found == pytest.approx(np.array(wanted))
    assert found[2, 3] == pytest.approx(1)
    assert found[0, 1] > found[0, 2] + 0.2


def test_pairs_that_are_not_trained_on_count_neither_as_text_nor_as_resource(monkeypatch):
    train = {"aa": text([f"ka{x}" for x in "lmnprst"]), "bb": text([f"yo{x}" for x in "ghjfqx"])}
    of_texts(monkeypatch, train)
    alone = known(build(vocabulary=330, max_length=30))
    train["aa"].foreign.append("yog yoh yoj " * 40)
    train["aa"].central.append("the x")
    more = known(build(vocabulary=330, max_length=30))
    assert more["resource"].values.tolist() == alone["resource"].values.tolist() == [60, 60]
    assert more["overlap"].values == pytest.approx(alone["overlap"].values, abs=0.05)


def test_real_languages_have_families_branches_and_a_coarse_distance(monkeypatch):
    scripts = {"deu": "Latn", "nld": "Latn", "rus": "Cyrl", "fin": "Latn"}
    languages = {code: {"name": code, "script": script} for code, script in scripts.items()}
    of_texts(monkeypatch, {code: text(["kalo", "miru", code]) for code in scripts}, languages=languages)
    found = known(build(vocabulary=330))
    assert found["family"].values.tolist() == ["Indo-European", "Indo-European", "Indo-European", "Uralic"]
    assert found["branch"].values.tolist() == ["Germanic", "Germanic", "Slavic", "Finnic"]
    assert found["genealogy"].values.tolist() == [[0, 0, 1, 2], [0, 0, 1, 2], [1, 1, 0, 2], [2, 2, 2, 0]]
    assert "WALS" in found["genealogy"].about
    assert found["script"].values.tolist() == list(scripts.values())


def test_a_language_that_the_table_lacks_leaves_genealogy_out_and_nothing_else(monkeypatch):
    of_texts(monkeypatch, {code: text(["kalo", "miru", code]) for code in ("deu", "qqq")})
    assert set(known(build(vocabulary=310))) == {"resource", "overlap"}


def test_the_table_has_every_language_of_the_bibles_of_multi30k_and_of_ted():
    wanted = {one.language for one in TRANSLATIONS.values()} | set(LANGUAGES)
    assert wanted.union(*GROUPS.values()) <= set(genealogy.GENEALOGY)
    assert genealogy.GENEALOGY["de"] == genealogy.GENEALOGY["deu"]


def test_no_branch_is_in_two_families_and_the_table_names_its_source():
    table = read_yaml(Path(genealogy.__file__).with_name("genealogy.yaml"))
    assert "wals" in table["source"]
    of_branch = {}
    for row in table["languages"].values():
        assert of_branch.setdefault(row["branch"], row["family"]) == row["family"]
    rows = [row["wals"] for row in table["languages"].values()]
    assert len(set(rows)) == len(rows)
