"""Checkpoints of multilingual encoders: where they come from, what is refused, and the models in them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtlbench.errors import UsageError
from mtlbench.storage import path_of

from .._vision import declare_operators
from .encoding import Symbols

try:
    declare_operators()  # transformers imports torchvision where it is installed
    import huggingface_hub
    import transformers
    from transformers import AutoConfig, AutoModel, AutoTokenizer
except ImportError as error:
    raise UsageError('The task xtreme needs transformers: pip install "mtlbench[nlp]".') from error

FILES = ("config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer*", "vocab*", "*.model")
"""What a checkpoint is made of; nothing else is downloaded or counts for its digest."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
OPTIONAL = ("pooler.",)
"""Parameters that a checkpoint need not have: few problems use them, and those that do begin with new ones."""


@dataclass(frozen=True)
class Encoder:
    """A checkpoint of an encoder with its tokeniser."""

    folder: Path
    told: str
    """What people call it: the value of `encoder=`."""
    tokenizer: Any
    digest: str
    """SHA-256 (hex) over its files."""
    separators: int = 1
    """End symbols between two texts: one in BERT, two in XLM-R."""
    kinds: bool = False
    """Whether it tells a second text from the first by token types."""

    @property
    def symbols(self) -> Symbols:
        """The special subwords."""
        t = self.tokenizer
        return Symbols(t.pad_token_id, t.cls_token_id, t.sep_token_id, t.unk_token_id)

    def cut(self, words: Sequence[str]) -> list[list[int]]:
        """The subwords of each word, special ones not among them."""
        found: list[list[int]] = self.tokenizer(list(words), add_special_tokens=False)["input_ids"]
        return found

    def model(self, pooler: bool = False) -> nn.Module:
        """The model with the checkpoint's weights, in float32.

        Args:
            pooler: whether the dense layer over the first place is kept, for models of BERT's class, with new weights
                where the checkpoint has none. XLM-R's class classifies without it.

        Raises:
            UsageError: weights of another shape, or missing ones; names file and parameter.
        """
        with quiet(), _refusing(self.folder, "its weights cannot be read"):
            model, info = AutoModel.from_pretrained(
                self.folder,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # they are refused here, by name
                output_loading_info=True,
                dtype=torch.float32,
            )
        for name, *shapes in sorted(info["mismatched_keys"]):
            there, wanted = (tuple(shape) for shape in shapes)
            raise _unusable(
                self.folder, f"its weights do not fit config.json: {name} is {there}, and wanted is {wanted}"
            )
        missing = sorted(name for name in info["missing_keys"] if not name.startswith(OPTIONAL))
        if missing:
            raise _unusable(self.folder, f"its weights lack {len(missing)} parameters, such as {missing[0]}")
        if getattr(model, "pooler", None) is not None and not (pooler and self.separators == 1):
            model.pooler = None
        return model


def load(encoder: str, max_length: int, folder: Path | None = None) -> Encoder:
    """The checkpoint that `encoder=` names.

    Args:
        encoder: a folder, or a name on the Hugging Face hub, of which config, tokeniser and safetensors weights are
            downloaded where its cache does not have them.
        max_length: positions that it must have.
        folder: where the checkpoint lies, for one that is known under another name.

    Raises:
        UsageError: no such folder, a hub that cannot be reached, weights as pickle, a tokeniser or a model of another
            kind than BERT and XLM-R, fewer positions or rows of embeddings than needed.
    """
    place = folder or _folder(encoder)
    _require_safetensors(place)
    with quiet(), _refusing(place, "config.json or its tokeniser cannot be read"):
        config = AutoConfig.from_pretrained(place, trust_remote_code=False, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False, local_files_only=True)
    for needed in ("hidden_size", "hidden_dropout_prob", "initializer_range", "max_position_embeddings", "vocab_size"):
        if not hasattr(config, needed) or getattr(config, "is_encoder_decoder", False):
            raise _unusable(place, f"config.json describes no encoder such as BERT or XLM-R, but a {config.model_type}")
    roberta = "roberta" in config.model_type
    kinds = not roberta and getattr(config, "type_vocab_size", 1) > 1  # XTREME's scripts give XLM-R none
    found = Encoder(place, encoder, tokenizer, _digest(place), separators=1 + roberta, kinds=kinds)
    absent = [name for name, token in found.symbols._asdict().items() if token is None]
    if absent:
        raise _unusable(place, f"its tokeniser has no subword for {', '.join(absent)}")
    if len(tokenizer) > config.vocab_size:
        raise _unusable(place, f"its tokeniser has {len(tokenizer)} subwords, and config.json {config.vocab_size}")
    # XLM-R counts positions from behind the padding index on.
    before = found.symbols.pad + 1 if roberta else 0
    if max_length > config.max_position_embeddings - before:
        raise UsageError(
            f"protocol.options.max_length={max_length} is too long for the encoder {encoder}, which has "
            f"{config.max_position_embeddings - before} positions."
        )
    return found


def _folder(encoder: str) -> Path:
    place = path_of(encoder)
    if place.is_dir():
        return place.resolve()
    if encoder.startswith((".", "~", os.sep)) or encoder.count("/") > 1:
        raise UsageError(f"encoder={encoder} is no folder. It takes tiny, a folder with a checkpoint, or a hub's name.")
    try:
        with quiet():
            return Path(huggingface_hub.snapshot_download(encoder, allow_patterns=list(FILES)))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"encoder={encoder} is no folder, and the Hugging Face hub gives no checkpoint of that name ({reason}). "
            f"Without a network, bring its files ({', '.join(FILES[:3])}, tokenizer.json) from another machine into a "
            "folder and give encoder=FOLDER; or take encoder=tiny, which needs no download."
        ) from error


def _require_safetensors(folder: Path) -> None:
    if (folder / "model.safetensors").is_file() or (folder / "model.safetensors.index.json").is_file():
        return
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise _unusable(
            folder,
            f"its weights are a pickle ({pickles[0]}), which can run code when it is read. Save it as safetensors "
            "where you trust it: AutoModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)",
        )
    raise _unusable(folder, "it holds no model.safetensors")


def _digest(folder: Path) -> str:
    hashed = hashlib.sha256()
    for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
        hashed.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            hashed.update(hashlib.file_digest(file, "sha256").digest())
    return hashed.hexdigest()


def _unusable(folder: Path, reason: str) -> UsageError:
    return UsageError(f"The checkpoint {folder} is not usable: {reason}.")


@contextlib.contextmanager
def _refusing(folder: Path, reason: str) -> Iterator[None]:
    """What a library raises for a damaged checkpoint, as one error."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip().split(chr(10))[0]}"
        raise _unusable(folder, f"{reason} ({said})") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars and no advice of the libraries', which would stand between ours."""
    logger = logging.getLogger("transformers")
    level, bars = logger.level, transformers.utils.logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
