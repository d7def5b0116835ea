"""Checkpoints of both classes through transformers, and those that are refused."""

import json
import pickle

import pytest
import safetensors.torch
import torch
from xtreme_samples import bert, edit_config, xlmr

from mtlbench.errors import UsageError
from mtlbench.tasks.xtreme import encoders


def refused(folder, max_length=16):
    with pytest.raises(UsageError) as caught:
        encoders.load(str(folder), max_length).model()
    return str(caught.value)


@pytest.mark.parametrize("make", [bert, xlmr])
def test_a_checkpoint_of_either_class_is_loaded_with_its_very_weights_and_without_its_pooler(tmp_path, make):
    encoder = encoders.load(str(make(tmp_path)), 64)
    model = encoder.model()
    saved = safetensors.torch.load_file(tmp_path / "model.safetensors")
    state = model.state_dict()
    assert state.keys() == {name for name in saved if not name.startswith("pooler.")}
    assert all(torch.equal(state[name], saved[name]) for name in state)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert type(model).__name__ == {"bert": "BertModel", "xlmr": "XLMRobertaModel"}[make.__name__]


def test_weights_in_half_precision_are_trained_in_float32(tmp_path):
    bert(tmp_path)
    saved = safetensors.torch.load_file(tmp_path / "model.safetensors")
    half = {name: weight.bfloat16() for name, weight in saved.items()}
    safetensors.torch.save_file(half, tmp_path / "model.safetensors", {"format": "pt"})
    edit_config(tmp_path, dtype="bfloat16")
    assert {p.dtype for p in encoders.load(str(tmp_path), 16).model().parameters()} == {torch.float32}


def test_the_digest_is_of_the_content_alone(tmp_path):
    one, two = bert(tmp_path / "one"), bert(tmp_path / "two")
    digests = [encoders.load(str(folder), 16).digest for folder in (one, two)]
    assert digests[0] == digests[1]
    (one / "README.md").write_text("what people read")
    assert encoders.load(str(one), 16).digest == digests[0]
    edit_config(one, hidden_dropout_prob=0.2)
    assert encoders.load(str(one), 16).digest != digests[0]


def test_a_pickle_is_refused_and_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("opened").touch, ())

    bert(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    assert "its weights are a pickle (pytorch_model.bin)" in refused(tmp_path)
    assert not (tmp_path / "opened").exists()
    (tmp_path / "pytorch_model.bin").unlink()
    assert "it holds no model.safetensors" in refused(tmp_path)


def test_weights_of_another_shape_are_refused_by_name(tmp_path):
    edit_config(bert(tmp_path), intermediate_size=48)
    told = refused(tmp_path)
    assert str(tmp_path) in told
    assert "intermediate.dense.bias is (32,), and wanted is (48,)" in told


def test_missing_weights_are_refused_by_name_and_not_drawn(tmp_path):
    edit_config(bert(tmp_path), num_hidden_layers=2)
    assert "its weights lack 16 parameters, such as encoder.layer.1." in refused(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").write_text("{"), "config.json or its tokeniser cannot be read"),
        (lambda f: (f / "config.json").unlink(), "config.json or its tokeniser cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"no tensors"), "its weights cannot be read"),
        (lambda f: edit_config(f, vocab_size=20), "its tokeniser has 58 subwords, and config.json 20"),
        (lambda f: edit_config(f, is_encoder_decoder=True), "describes no encoder such as BERT or XLM-R"),
        (lambda f: edit_config(f, model_type="gpt2"), "its weights lack"),
    ],
)
def test_a_damaged_checkpoint_is_one_error_that_names_its_folder(tmp_path, damage, message):
    damage(bert(tmp_path))
    told = refused(tmp_path)
    assert told.startswith(f"The checkpoint {tmp_path} is not usable: ")
    assert message in told
    assert "\n" not in told


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    edit_config(bert(tmp_path), model_type="mine", auto_map={"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine"})
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "config.json or its tokeniser cannot be read" in refused(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_tokeniser_without_special_subwords_is_refused(tmp_path):
    bert(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in settings.items() if k != "cls_token"}))
    assert "its tokeniser has no subword for start" in refused(tmp_path)


def test_windows_longer_than_the_positions_of_the_model_are_refused(tmp_path):
    bert(tmp_path / "bert")
    xlmr(tmp_path / "xlmr")
    assert "max_length=65 is too long" in refused(tmp_path / "bert", 65)
    assert "which has 64 positions" in refused(tmp_path / "xlmr", 65)  # 66, of which two lie before the first


def test_a_folder_that_is_not_there_is_no_name_on_the_hub(tmp_path):
    for name in (tmp_path / "nothing", "./nothing", "~/nothing-of-mine", "some/where/deep"):
        assert f"encoder={name} is no folder" in refused(name)


def test_a_hub_that_cannot_be_reached_is_one_error_that_says_how_to_bring_the_files(monkeypatch):
    monkeypatch.setattr(encoders.huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    told = refused("bert-base-multilingual-cased-of-nobody")
    assert "\n" not in told
    assert "bring its files (config.json, model*.safetensors" in told
    assert "encoder=tiny, which needs no download" in told
