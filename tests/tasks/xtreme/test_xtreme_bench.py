"""The benchmark of fine-tuning: the same batches for the plain loop and for the steps of the task."""

import pytest
import torch
from torch.nn import functional
from xtreme_samples import bert, data_root

from mtlbench.bench.result import Bench
from mtlbench.bench.words import run_bench
from mtlbench.errors import UsageError
from mtlbench.tasks.xtreme import bench


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MTLBENCH_DATA", str(data_root(tmp_path / "data")))


def words(tmp_path):
    return [f"encoder={bert(tmp_path / 'bert', max_position_embeddings=128)}", "variant=udpos", "K=2", "sentences=4"]


def test_rows_tell_the_speed_of_each_method_against_the_plain_loop_and_uniform(tmp_path):
    told = []
    found = run_bench(
        ["xtreme", *words(tmp_path), "method=gradvac", "repeats=2"], progress=lambda *call: told.append(call)
    )
    assert [row.labels["method"] for row in found.rows] == ["transformers", "uniform", "gradvac"]
    assert [[name for name, ratio in row.ratios.items() if ratio] for row in found.rows] == [
        ["speed/uniform"],
        ["speed/transformers"],
        ["speed/transformers", "speed/uniform"],
    ]
    assert told[-1][:2] == (6, 6)
    row = found.rows[1]
    assert row.ratios["speed/transformers"].median == pytest.approx(
        sum(p / u for p, u in zip(row.samples["transformers"], row.samples["step"], strict=True)) / 2
    )
    assert Bench.from_json(found.to_json()) == found


def test_every_number_of_sentences_is_measured_on_its_own_batches_and_the_progress_ends_at_its_total(tmp_path):
    told = []
    asked = [*words(tmp_path)[:-1], "sentences=1,3", "repeats=1"]
    found = run_bench(["xtreme", *asked], progress=lambda *call: told.append(call[:2]))
    assert [(row.labels["sentences"], row.labels["method"]) for row in found.rows] == [
        (sentences, name) for sentences in (1, 3) for name in ("transformers", "uniform", "gradvac")
    ]
    few, many = (row.labels["subwords"] for row in found.rows[::3])
    assert 2 * few < many
    assert told == [(n, 6) for n in range(1, 7)]


def test_the_plain_loop_has_the_same_words_and_labels_as_the_task(tmp_path):
    task = bench._task(bench._settings(words(tmp_path)), 4, torch.device("cpu"))
    model = task.model().eval()
    for k, batch in bench._batches(task)[0].items():
        labels = bench._labels(batch)
        hidden = model.encoder(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
        plain = functional.cross_entropy(model.heads[0](hidden).flatten(0, 1), labels.flatten())
        assert plain.item() == pytest.approx(task.problem.loss(model, batch, k).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("K=4", "has 3 languages"),
        ("K=1", "K"),
        ("repeats=0", "repeats"),
        ("sentences=0", "sentences"),
        ("speed=1", "Unknown key"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, word, says):
    asked = [w for w in words(tmp_path) if not w.startswith(word.partition("=")[0])]
    with pytest.raises(UsageError, match=says):
        run_bench(["xtreme", *asked, word])
