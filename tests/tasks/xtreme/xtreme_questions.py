"""Small files of questions, and checkpoints whose subwords are characters."""

import gzip
import json
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.implementations import BertWordPieceTokenizer
from transformers import PreTrainedTokenizerFast
from xtreme_samples import LETTERS

from mtlbench.tasks.xtreme.answers.questions import Answer, Question
from mtlbench.tasks.xtreme.encoders import Encoder

LANGUAGES = ("de", "en", "es")
FOLDERS = {
    "xquad": "xquad/xquad.{language}.json",
    "mlqa": "mlqa/MLQA_V1/{split}/{split}-context-{language}-question-{language}.json",
    "tydiqa": "tydiqa/tydiqa-goldp-v1.1-{split}/tydiqa.goldp.{language}.{split}.json",
    "squad": "squad/{split}-v1.1.json",
}


def paragraph(number: int, letter: str, prefix: str = "", questions: int = 2) -> dict:
    """A paragraph of words that begin with the letter of its language, where the answer to all questions is `q`."""
    words = [
        f"{letter}{LETTERS[n % 11]}{LETTERS[number // 11 % 11]}{LETTERS[number % 11]}" for n in range(4 + number % 3)
    ]
    words.insert(1 + number % 4, "q")
    context = " ".join(words)
    answer = {"text": "q", "answer_start": context.index("q")}
    qas = [
        {"id": f"{prefix}{number}-{n}", "question": f"{LETTERS[n]} {letter}?", "answers": [dict(answer)]}
        for n in range(questions)
    ]
    return {"context": context, "qas": qas}


def save(path: Path, paragraphs, zipped: bool = False) -> Path:
    """A file of SQuAD's format, each paragraph an article."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"version": "1.1", "data": [{"paragraphs": [one]} for one in paragraphs]}).encode()
    path = path.with_name(f"{path.name}.gz") if zipped else path
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path


def data_root(folder: Path, problem: str = "xquad", splits=("dev",), count: int = 60) -> Path:
    """A data root with the files of one problem in three languages."""
    for split in splits:
        for language in LANGUAGES:
            path = folder / FOLDERS[problem].format(language=language, split=split)
            save(path, [paragraph(n, language[0], f"{split}-") for n in range(count)], zipped=language == "es")
    return folder


def squad(folder: Path, split: str, count: int, prefix: str) -> Path:
    """A file of SQuAD's."""
    return save(folder / FOLDERS["squad"].format(split=split), [paragraph(n, "e", prefix) for n in range(count)])


def question(context: str, *answers: str, text: str = "a b", name: str = "1") -> Question:
    """A question whose answers are found where they first stand."""
    found = tuple(Answer(context.index(answer), answer) for answer in answers)
    return Question(name, text, context, found, key=context, leads=True)


def wordpiece(characters: str) -> Encoder:
    """A tokeniser of BERT's class with characters as subwords."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{x}" for x in characters)]
    made = BertWordPieceTokenizer({piece: n for n, piece in enumerate(pieces)}, lowercase=False, strip_accents=False)
    special = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made._tokenizer, **special)
    return Encoder(Path(), "characters", tokenizer, "", separators=1, kinds=True)


def unigram(characters: str, *longer: str) -> Encoder:
    """A tokeniser of XLM-R's class with characters as pieces: NFKC, and a boundary in the place of each space."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((x, -1.0) for x in longer)]
    known = sorted({one for x in characters for one in normalizers.NFKC().normalize_str(x)} - {"▁", " "})
    made = Tokenizer(models.Unigram([*pieces, *((x, -3.0) for x in known), ("<mask>", 0.0)], unk_id=3))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    special = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, **special)
    return Encoder(Path(), "pieces", tokenizer, "", separators=2, kinds=False)
