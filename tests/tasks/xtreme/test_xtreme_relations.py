"""What XTREME tells of its languages: trees or families, labels there are, overlap of subwords."""

from collections import Counter

import numpy as np
import pytest
import torch
import xtreme_samples

from mtlbench.catalogue.relation import require_of
from mtlbench.catalogue.variants import resolve
from mtlbench.tasks._families import TREE
from mtlbench.tasks._text.genealogy import GENEALOGY
from mtlbench.tasks.xtreme import XTREME

FORTY = (
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi "
    "yo zh"
)
"""The languages of XTREME (Hu et al., ICML 2020)."""


@pytest.fixture
def build(tmp_path):
    def made(name, root=None, **options):
        own = {"encoder": str(xtreme_samples.bert(tmp_path / "bert")), **options}
        variant, protocol = resolve("xtreme", name, None, {})
        protocol = protocol.model_copy(update={"options": {**protocol.options, **own}})
        return XTREME(variant, protocol, root, torch.device("cpu"))

    return made


def known(task):
    found = task.relations()
    require_of(found, len(task.objectives))
    return {relation.name: relation for relation in found}


def test_embedded_languages_have_their_tree_and_what_they_are_trained_on(build):
    languages = ["dalu", "doran", "mora"]
    found = known(build("families-pos", languages=languages))
    family = {member: name for name, members in TREE.families().items() for member in members}
    assert next(iter(found)) == "family"
    assert found["family"].values.tolist() == [family[language] for language in languages]
    assert found["tree"].values[0, 1] == pytest.approx(TREE.distance("dalu", "doran"))
    assert found["resource"].about == "training sentences"
    assert set(found["resource"].values) <= {20.0, 60.0}


def test_overlap_is_bhattacharyyas_coefficient_of_the_subwords_that_are_trained_on(build):
    task = build("families-pos", languages=["dalu", "doran", "mora"])
    p, shares = task.problem, []
    for name in p.languages:
        words = [word for sentence in p.kept["train"][name] for word in sentence.words]
        counts = Counter(subword for ids in p.encoder.cut(words) for subword in ids)
        shares.append({subword: n / counts.total() for subword, n in counts.items()})
    wanted = [[sum(np.sqrt(a[v] * b[v]) for v in a.keys() & b.keys()) for b in shares] for a in shares]
    np.testing.assert_allclose(known(task)["overlap"].values, wanted, rtol=1e-12)
    assert 0 < wanted[0][1] < 1


def test_real_languages_have_families_and_in_transfer_no_amounts(build, tmp_path):
    root = xtreme_samples.data_root(tmp_path / "data")
    found = known(build("udpos", root, languages=["en", "de"], max_length=60))
    assert found["branch"].values.tolist() == ["Germanic", "Germanic"]
    assert found["genealogy"].values.tolist() == [[0, 0], [0, 0]]
    assert {"resource", "overlap"} <= set(found)
    assert set(known(build("udpos-zeroshot", root, languages=["en", "de"], max_length=60))) == {
        "family",
        "branch",
        "genealogy",
    }


def test_the_table_has_every_language_of_xtreme():
    assert len(FORTY.split()) == 40
    assert set(FORTY.split()) <= set(GENEALOGY)
