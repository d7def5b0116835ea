"""XTREME's probes: rows that are not trained on, none twice, and as many of every language as were asked for."""

import pytest
import torch
import xtreme_samples

from mtlbench.catalogue.variants import resolve
from mtlbench.errors import UsageError
from mtlbench.tasks.xtreme import XTREME

LANGUAGES = ["dalu", "doran", "mora"]


@pytest.fixture
def task(tmp_path):
    """Parts of speech in three of the embedded languages, with an encoder of one layer."""
    variant, protocol = resolve("xtreme", "families-pos", None, {})
    own = {"encoder": str(xtreme_samples.bert(tmp_path / "bert")), "languages": LANGUAGES, "sentences": {"val": 30}}
    own = {**protocol.options, **own}
    return XTREME(variant, protocol.model_copy(update={"options": own}), None, torch.device("cpu"))


def rows_of(batch):
    """The rows of a batch, without padding."""
    return [tuple(ids[mask].tolist()) for ids, mask in zip(batch.ids, batch.mask, strict=True)]


def drawn(task, count=4, examples=5):
    return task.probes(count, examples, torch.Generator().manual_seed(3))


def test_probes_are_rows_of_val_and_none_stands_twice(task):
    probes = drawn(task)
    assert (probes.aligned, probes.examples, probes.split, len(probes.batches)) == (False, 5, "val", 4)
    for k in range(len(LANGUAGES)):
        found = [row for batch in probes.batches for row in rows_of(batch[k])]
        held = task.problem.batch(k, torch.arange(len(task.problem.lengths(k, "val"))).numpy(), "val")
        there = rows_of(held)
        assert len(found) == 20
        assert all(found.count(row) <= there.count(row) for row in found)
    again = drawn(task)
    assert all(torch.equal(a[0].ids, b[0].ids) for a, b in zip(probes.batches, again.batches, strict=True))


def trained(task, k):
    """All training rows of a language."""
    return rows_of(task.problem.batch(k, torch.arange(len(task.problem.lengths(k, "train"))).numpy(), "train"))


def test_where_val_has_too_few_rows_training_has_them_and_then_it_is_said(task):
    p = task.problem
    val, train = (min(len(p.lengths(k, split)) for k in range(len(LANGUAGES))) for split in ("val", "train"))
    assert val < train
    probes = drawn(task, val // 2 + 1, 2)
    assert (len(probes.batches), probes.split) == (val // 2 + 1, "train")
    for k in range(len(LANGUAGES)):
        assert {row for batch in probes.batches for row in rows_of(batch[k])} <= set(trained(task, k))
    with pytest.raises(UsageError, match=f"one has {train}: give geometry.batches"):
        drawn(task, train // 2 + 1, 2)


def test_the_loss_of_a_probe_is_the_plain_mean_whatever_the_shares(task):
    torch.manual_seed(0)
    model = task.model().eval()
    batch, everyone = drawn(task).batches[0], range(len(LANGUAGES))
    plain = torch.stack(list(task.losses(model, batch, everyone)))
    task.share_out(torch.tensor([0.6, 0.3, 0.1]).double().numpy())
    assert torch.equal(torch.stack(list(task.losses(model, batch, everyone))), plain)
