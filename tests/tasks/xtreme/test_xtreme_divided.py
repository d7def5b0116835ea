"""XTREME over processes: rows of words, pairs and questions in parts that together weigh what the whole batch does."""

import itertools

import numpy as np
import pytest
import torch
import xtreme_questions
import xtreme_samples

from mtlbench.catalogue.variants import resolve
from mtlbench.running.team import Team
from mtlbench.tasks.xtreme import XTREME, Whole

CPU = torch.device("cpu")
PARTS = (1, 2, 3, 7)
SETTINGS = {"max_length": 32, "steps_per_epoch": None, "high_resource": 50, "sentences": {}}
ANSWERS = {"stride": 8, "question_length": 8, "n_best": 20, "length": 5}


def pairs_root(folder):
    """Pairs in three languages, of texts of other lengths."""
    labels = ("contradiction", "entailment", "neutral")
    for language in ("de", "en", "fr"):
        names = [f"{language}{first}{second}" for first in "abcdefghi" for second in "jklmnopqrs"]
        lines = [f"{name} {'ab ' * (n % 5)}\tno {name}\t{labels[n % 3]}\n" for n, name in enumerate(names)]
        path = folder / "xnli" / f"dev-{language}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
        path.with_name(f"test-{language}.tsv").write_text("a\tb\n")
    return folder


ROOTS = {"udpos": xtreme_samples.data_root, "xnli": pairs_root, "xquad": xtreme_questions.data_root}


@pytest.fixture(params=ROOTS)
def task(request, tmp_path):
    """Of each kind, three languages with an encoder of one layer."""
    variant, protocol = resolve("xtreme", request.param, None, {"batch_size": 5})
    encoder = str(xtreme_samples.bert(tmp_path / "bert"))
    own = {**protocol.options, **SETTINGS, "encoder": encoder, **({"answers": ANSWERS} if variant == "xquad" else {})}
    return XTREME(variant, protocol.model_copy(update={"options": own}), ROOTS[request.param](tmp_path / "data"), CPU)


def steps(task, count=3):
    return list(itertools.islice(task.batches(0, torch.Generator().manual_seed(0)), count))


def losses_and_gradients(task, model, batch, objectives):
    """Objective -> its loss and its gradient in one vector."""
    found = {}
    for k, loss in zip(objectives, task.losses(model, batch, objectives), strict=True):
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        found[k] = torch.cat([loss.detach()[None], *(g.flatten() for g in gradients if g is not None)])
    return found


def test_losses_and_gradients_of_parts_weigh_together_what_the_batch_does_and_some_hold_nothing(task):
    torch.manual_seed(0)
    model = task.model().double().eval()
    task.share_out(np.array([0.5, 0.3, 0.2]))
    for batch, parts in itertools.product(steps(task), PARTS):
        wanted = losses_and_gradients(task, model, batch, task.present(batch))
        shares = [Team(part, parts).share(task, batch) for part in range(parts)]
        rows = {k: [len(share[k].ids) for share, _ in shares] for k in batch}
        assert all(sum(sizes) == len(batch[k].ids) and max(sizes) - min(sizes) <= 1 for k, sizes in rows.items())
        assert parts < 7 or any(len(amounts) < 3 for _, amounts in shares)
        found = [losses_and_gradients(task, model, share, list(amounts)) for share, amounts in shares]
        for k in batch:
            weights = [amounts.get(k, 0.0) for _, amounts in shares]
            weighed = sum(w / sum(weights) * own[k] for w, own in zip(weights, found, strict=True) if w)
            torch.testing.assert_close(weighed, wanted[k], rtol=1e-9, atol=1e-11)


def test_rows_with_more_words_weigh_more_where_a_loss_is_the_mean_over_words(task):
    batch = steps(task, 1)[0]
    if task.variant == "udpos":  # all rows have three words: the last one loses a label
        first = batch[0]
        own = first._replace(places=first.places[:-1], labels=first.labels[:-1])
        amounts = [task.divide({0: own}, part, 2)[1][0] for part in range(2)]
        assert sum(amounts) == len(own.labels)
        assert amounts != [len(rows) * 3.0 for rows in (own.ids[::2], own.ids[1::2])]
    else:
        assert [task.divide(batch, part, 2)[1][0] for part in range(2)] == [3.0, 2.0]


def test_a_step_that_one_language_has_for_itself_stays_one_in_parts(task):
    (batch,) = itertools.islice(task.batches_of(1, 0, torch.Generator().manual_seed(0)), 1)
    share, amounts = task.divide(batch, 0, 2)
    assert isinstance(share, Whole)
    assert list(amounts) == [1]
