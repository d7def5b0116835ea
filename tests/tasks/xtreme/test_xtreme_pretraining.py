"""The encoder `tiny`: made once, the same for everybody, and able to find hidden words better than chance."""

import json
import multiprocessing
import os

import pytest
import torch

from mtlbench.errors import UsageError
from mtlbench.tasks._cache import DONE
from mtlbench.tasks._text.bibles.files import words
from mtlbench.tasks.xtreme import pretraining, unlabelled
from mtlbench.tasks.xtreme.encoding import IGNORED
from mtlbench.tasks.xtreme.options import Options

WORDS = [f"{a}{b}{c}" for a in "kmpt" for b in "aeiou" for c in "lnrs"]
TEXT = {
    language: [tuple(WORDS[(n * 7 + i + shift) % len(WORDS)] for i in range(4)) for n in range(60)]
    for language, shift in (("aa", 0), ("bb", 5))
}


def options(**changed):
    return Options(**{"max_length": 16, "vocabulary": 200, "pretrain_steps": 3, "pretrain_batch": 8, **changed})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def made(monkeypatch):
    """The folders that encoders were made in."""
    found = []
    make = pretraining._make
    monkeypatch.setattr(pretraining, "_make", lambda folder, *rest: (found.append(folder), make(folder, *rest))[1])
    return found


def weights(encoder):
    return torch.cat([p.detach().flatten() for p in encoder.model().parameters()])


def test_it_is_made_once_and_the_same_in_every_cache(cache, made, monkeypatch, tmp_path):
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one = pretraining.tiny(TEXT, options())
    assert torch.equal(torch.random.get_rng_state(), state)
    again = pretraining.tiny(TEXT, options())
    assert len(made) == 1
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "other"))
    torch.manual_seed(6)
    elsewhere = pretraining.tiny(TEXT, options())
    assert len(made) == 2
    assert one.digest == again.digest == elsewhere.digest
    assert torch.equal(weights(one), weights(elsewhere))
    assert {path.suffix for path in one.folder.iterdir() if not path.name.startswith(".")} == {".json", ".safetensors"}


@pytest.mark.parametrize(
    ("option", "value"),
    [("pretrain_steps", 0), ("pretrain_seed", 1), ("vocabulary", 220), ("max_length", 20), ("temperature", 1.5)],
)
def test_whatever_it_depends_on_gives_another_one(option, value):
    assert pretraining.tiny(TEXT, options()).folder != pretraining.tiny(TEXT, options(**{option: value})).folder


def test_what_it_does_not_depend_on_gives_the_same_one_and_other_text_another():
    one = pretraining.tiny(TEXT, options())
    assert (
        pretraining.tiny(TEXT, options(heads="per_language", high_resource=7, steps_per_epoch=3)).folder == one.folder
    )
    assert pretraining.tiny({**TEXT, "bb": TEXT["bb"][1:]}, options()).digest != one.digest


def test_a_damaged_one_is_made_again(made):
    encoder = pretraining.tiny(TEXT, options())
    path = encoder.folder / "model.safetensors"
    content = path.read_bytes()
    for damaged in (content[:-1] + b"x", b""):
        path.write_bytes(damaged)
        assert pretraining.tiny(TEXT, options()).digest == encoder.digest
        assert path.read_bytes() == content
    (encoder.folder / DONE).unlink()
    assert pretraining.tiny(TEXT, options()).digest == encoder.digest
    assert len(made) == 4


def _make_and_tell(queue):
    torch.set_num_threads(1)
    make = pretraining._make

    def counted(folder, *rest):
        queue.put(("made", os.getpid()))
        make(folder, *rest)

    pretraining._make = counted
    queue.put(("digest", pretraining.tiny(TEXT, options(pretrain_steps=20)).digest))


def test_two_processes_that_want_it_at_once_make_it_once():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    both = [context.Process(target=_make_and_tell, args=(queue,)) for _ in range(2)]
    for process in both:
        process.start()
    told = [queue.get(timeout=200) for _ in range(3)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted(kind for kind, _ in told) == ["digest", "digest", "made"]
    assert len({value for kind, value in told if kind == "digest"}) == 1


def test_a_cache_that_cannot_be_written_is_told_and_stops_nothing(cache):
    cache.write_text("no folder")
    with pytest.warns(UserWarning, match=r"encoder will not be kept, and will be made again .* MTLBENCH_CACHE=DIR"):
        encoder = pretraining.tiny(TEXT, options())
    assert encoder.model() is not None


def test_a_vocabulary_that_does_not_hold_the_characters_is_refused():
    many = {"zh": [(chr(0x4E00 + n),) for n in range(300)]}
    with pytest.raises(UsageError, match=r"vocabulary=200 is too small: the characters of the text alone"):
        pretraining.tiny(many, options())


def test_the_subwords_are_the_same_every_time_and_hold_every_character_wherever_it_can_stand():
    text = [*TEXT["aa"], ("it's", "\u2581x", "日本"), ("ab" * 3,)]
    one, two = (pretraining._tokenizer(text, 120).get_vocab() for _ in range(2))
    assert one == two
    assert len(one) == 120
    characters = set("".join(word for words in text for word in words))
    alone = set("'日本")  # marks and Chinese characters are words of their own
    assert characters | {f"##{character}" for character in characters - alone} <= one.keys()
    assert not {f"##{character}" for character in alone} & one.keys()
    assert [one[f"[{kind}]"] for kind in pretraining.SPECIAL] == [0, 1, 2, 3, 4]


def test_a_text_with_fewer_pieces_than_the_vocabulary_has_room_for_gets_those_that_there_are():
    vocabulary = pretraining._tokenizer([("ab", "ab", "cd")], 5000).get_vocab()
    assert {"ab", "cd"} <= vocabulary.keys()
    assert len(vocabulary) < 30


def test_hidden_are_some_of_the_words_subwords_and_never_special_ones():
    tokenizer = pretraining._tokenizer(TEXT["aa"], 200)
    ids = torch.randint(5, len(tokenizer), (200, 20))
    ids[:, 0], ids[:, 15], ids[:, 16:] = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    mask = torch.arange(20).expand_as(ids) < 16
    seen, wanted = pretraining._masked(ids, mask, tokenizer, torch.Generator().manual_seed(0))
    asked = wanted != IGNORED
    assert not asked[:, [0, *range(15, 20)]].any()
    assert torch.equal(wanted[asked], ids[asked])
    assert torch.equal(seen[~asked], ids[~asked])
    assert asked[:, 1:15].float().mean().item() == pytest.approx(0.15, abs=0.02)
    assert (seen[asked] == tokenizer.mask_token_id).float().mean().item() == pytest.approx(0.8, abs=0.06)
    one = torch.tensor([[2, 7, 3]])
    assert (pretraining._masked(one, one > 0, tokenizer, torch.Generator().manual_seed(1))[1] != IGNORED).any()


def test_pre_training_learns_and_tells_how_far_it_is(caplog, monkeypatch):
    monkeypatch.setattr(pretraining, "TELL_SECONDS", 0.0)
    caplog.set_level("INFO", logger="mtlbench")
    repeated = {"aa": [(word,) * 4 for word in WORDS]}
    pretraining.tiny(repeated, options(pretrain_steps=300, pretrain_lr=0.005, pretrain_batch=80))
    told = [record.getMessage() for record in caplog.records if record.name.startswith("mtlbench")]
    assert told[0] == "pre-training the encoder by masked language modelling: 300 steps"
    assert told[-1].startswith("pre-training the encoder: step 300 of 300, loss ")
    assert told[-1].endswith(", 0 s left")
    assert float(told[-1].split("loss ")[1].split(",")[0]) < 3.5  # log(80) = 4.4 for one of 80 words by chance


def test_its_checksums_are_of_all_its_files():
    encoder = pretraining.tiny(TEXT, options())
    sums = json.loads((encoder.folder / DONE).read_text())
    assert sums.keys() == {p.name for p in encoder.folder.iterdir()} - {DONE, ".lock"}


def test_bibles_in_the_languages_of_the_task_join_its_own_text(tmp_path):
    folder = tmp_path / "bible_databases" / "formats" / "csv"
    folder.mkdir(parents=True)
    rows = "".join(f"Genesis,1,{n},Dan word {n}.\n" for n in range(1, 8))
    for name in ("ASV", "GerElb1905", "SpaRV"):
        (folder / f"{name}.csv").write_text(f"Book,Chapter,Verse,Text\n{rows}")
    found = unlabelled.bibles(tmp_path, ["de", "en", "yo"], 3)
    assert {code: len(verses) for code, verses in found.items()} == {"de": 3, "en": 3}
    assert found["de"] == [["Dan", "word", str(n), "."] for n in (1, 3, 5)]
    assert unlabelled.joined({"yo": [["a"]], "de": [["b"]]}, found) == {
        "yo": [["a"]],
        "de": [["b"], *found["de"]],
        "en": found["en"],
    }
    assert unlabelled.bibles(tmp_path, ["de"], 0) == unlabelled.bibles(None, ["de"], 3) == {}


def test_marks_are_words_of_their_own_except_inside_a_word():
    assert words("“Don't go,” he said (twice).") == ["“", "Don't", "go", ",", "”", "he", "said", "(", "twice", ")", "."]
    assert words("他就睡了；於是") == ["他就睡了", "；", "於是"]
    assert words("കാലം വന്നു") == ["കാലം", "വന്നു"]
