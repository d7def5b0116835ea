"""What the tests of XTREME share: small data roots, and checkpoints of both classes."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.implementations import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def write(path: Path, sentences) -> Path:
    """A tagging file: sentences of `word/TAG`, or of words alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(map(_lines, sentences)))
    return path


def _lines(sentence: str) -> str:
    return "".join(token.replace("/", "\t") + "\n" for token in sentence.split()) + "\n"


def text(count: int, letter: str) -> list[str]:
    """Sentences whose nouns begin with the letter of a language and whose verbs end with it."""
    found = []
    for n in range(count):
        noun, verb = f"{letter}{LETTERS[n % 7]}{LETTERS[n // 7 % 26]}", f"{LETTERS[n % 11]}o{letter}"
        found.append(f"{noun}/NOUN {verb}/VERB ./PUNCT")
    return found


def data_root(folder: Path) -> Path:
    """A data root of three languages: `en` and `de` have all files, `fr` has no training file."""
    for language, letter in {"en": "e", "de": "d", "fr": "f"}.items():
        for file, count in {"train": 60, "dev": 40, "test": 20}.items():
            if (language, file) != ("fr", "train"):
                write(folder / "udpos" / f"{file}-{language}.tsv", text(count, letter))
    return folder


def bert(folder: Path, **changed) -> Path:
    """A BERT checkpoint with random weights and letters as subwords."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{x}" for x in LETTERS), "."]
    made = BertWordPieceTokenizer({word: n for n, word in enumerate(vocabulary)}, lowercase=False, strip_accents=False)
    special = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=made._tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(1)
    config = BertConfig(**{"vocab_size": len(vocabulary), "max_position_embeddings": 64, **SIZES, **changed})
    BertModel(config).save_pretrained(folder)
    return folder


def xlmr(folder: Path) -> Path:
    """An XLM-R checkpoint with random weights, a unigram tokeniser and positions that begin behind the padding."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), (".", -3.0)]
    made = Tokenizer(models.Unigram([*pieces, *((x, -3.0) for x in LETTERS), ("<mask>", 0.0)], unk_id=3))
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    special = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    special |= {"unk_token": "<unk>", "mask_token": "<mask>"}
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)
    torch.manual_seed(1)
    config = XLMRobertaConfig(vocab_size=made.get_vocab_size(), max_position_embeddings=66, pad_token_id=1, **SIZES)
    XLMRobertaModel(config).save_pretrained(folder)
    return folder


def edit_config(folder: Path, **changed) -> None:
    """Change values of a checkpoint's `config.json`."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
