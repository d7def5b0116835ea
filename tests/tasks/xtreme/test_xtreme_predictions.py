"""Predictions as files: of the epoch that counts, in XTREME's format, whichever way a run went."""

import itertools

import numpy as np
import pytest
from xtreme_samples import bert, data_root

from mtlbench.record.runs import Run
from mtlbench.record.selection import Rule, choose
from mtlbench.running.training import Interrupted
from mtlbench.tasks.xtreme.tagging import tsv
from mtlbench.tasks.xtreme.tagging.scoring import scores
from mtlbench.tasks.xtreme.tagging.sentences import UPOS

WORDS = """
task=xtreme/udpos protocol.epochs=4 protocol.batch_size=8 protocol.optimizer.lr=0.05
protocol.options.max_length=16 protocol.options.steps_per_epoch=3 protocol.selection=best-val
"""


@pytest.fixture
def root(tmp_path):
    return data_root(tmp_path / "data")


@pytest.fixture
def words(tmp_path):
    return f"{WORDS} encoder={bert(tmp_path / 'bert')}"


def read(path):
    return [sentence.split("\n") for sentence in path.read_text().removesuffix("\n\n").split("\n\n")]


def f1_of_files(folder, root):
    found = []
    for language in ("de", "en", "fr"):
        gold = [s.tags for s in tsv.read(root / "udpos" / f"test-{language}.tsv", UPOS)]
        found.append(scores("pos", gold, read(folder / "udpos" / f"test-{language}.tsv"))["f1"].value)
    return found


def chosen(record):
    run = Run.of(record)
    values = choose(run, Rule.parse("best-val")).scores
    return [value for value, m in zip(values, run.measures, strict=True) if m.metric == "f1"]


@pytest.mark.parametrize("method", ["uniform", "single_task"])
def test_files_are_of_the_epoch_that_counts_for_each_objective(root, words, tmp_path, train, method):
    record = train(f"{words} method={method}", tmp_path / "cell", data_root=root, predictions=tmp_path / "out")
    assert f1_of_files(tmp_path / "out", root) == pytest.approx(chosen(record), abs=0)
    assert np.argmax(Run.of(record).val[:, 0]) < 3, "the last epoch counts: the test shows nothing"


def test_an_interrupted_run_leaves_the_same_files(root, words, tmp_path, train):
    asked = itertools.count(1)
    options = {"data_root": root, "predictions": tmp_path / "out"}
    with pytest.raises(Interrupted):
        train(f"{words} method=uniform", tmp_path / "cell", should_stop=lambda: next(asked) == 8, **options)
    record = train(f"{words} method=uniform", tmp_path / "cell", **options)
    assert f1_of_files(tmp_path / "out", root) == pytest.approx(chosen(record), abs=0)


def test_going_on_from_a_checkpoint_without_predictions_is_told(root, words, tmp_path, train):
    asked = itertools.count(1)
    with pytest.raises(Interrupted):
        train(f"{words} method=uniform", tmp_path / "cell", data_root=root, should_stop=lambda: next(asked) == 8)
    with pytest.warns(UserWarning, match="of epochs up to 2 there are none"):
        train(f"{words} method=uniform", tmp_path / "cell", data_root=root, predictions=tmp_path / "out")


def test_the_command_writes_a_folder_for_each_cell(root, words, tmp_path, command):
    run = f"run method=uniform data_root={root} {words}"
    ended = command(f"{run} --predictions out")
    assert ended.code == 0, ended.output
    (found,) = (tmp_path / "out").rglob("test-en.tsv")
    assert found.parent.name == "udpos"
    assert (tmp_path / "runs" / found.relative_to(tmp_path / "out").parents[1] / "record.json").exists()
    assert "finished before, without predictions" in command(f"{run} predictions=other").output
    ended = command("run method=uniform task=multimnist results=more predictions=out")
    assert ended.code == 2
    assert "task multimnist writes no predictions" in ended.output
    assert not (tmp_path / "more").exists()
