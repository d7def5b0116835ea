"""Scores of translations: sacreBLEU's BLEU and chrF, with a tokeniser that suits the target language's script."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mtlbench.errors import UsageError

try:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
except ImportError as error:
    raise UsageError('The task nmt needs sacreBLEU: pip install "mtlbench[nlp]".') from error

DEFAULT = "13a"
"""The tokeniser of published scores. It separates ASCII punctuation only, and words at spaces."""

TOKENIZERS = {
    # Chinese characters one by one, the rest like 13a.
    "zh": "zh zho chi cmn lzh wuu yue",
    # No spaces between words: Japanese, Thai, Lao, Burmese, Khmer, Shan, Tibetan and Dzongkha. Japanese is not
    # left to MeCab: a score must not depend on what else is installed.
    "char": "ja jpn th tha lo lao my mya bur km khm shn bo bod tib dz dzo",
    # Spaces, but marks of the script's own, which 13a leaves on the words: on 2 to 10 % of those of NTREX in Amharic,
    # Urdu, Bengali, Armenian, Persian, Nepali, Arabic, Hindi and Punjabi; intl on 0.1 % at most. NTREX is punctuated
    # in ASCII in the other Indic languages; older text is not, and neighbours are scored alike.
    "intl": (
        "am amh ti tir hy hye arm "  # Ethiopic, Armenian
        "ar ara arb ary arz mey fa fas per pes prs ur urd ps pus pbt sd snd ug uig ckb dv div "  # Arabic, Thaana
        "hi hin mr mar ne nep npi sa san bho mai bn ben as asm pa pan gu guj or ori ory si sin "  # Indic
        "ta tam te tel kn kan ml mal"
    ),
}
"""Tokeniser -> codes (ISO 639-1, 639-2, 639-3) of the languages that are not scored with `DEFAULT`.

Korean keeps the default: it is written with spaces and ASCII marks (1 % of NTREX's words keep a mark, as in English
text with curly quotes).
"""

_CHOSEN = {code: tokenizer for tokenizer, codes in TOKENIZERS.items() for code in codes.split()}


def tokenizer(language: str) -> str:
    """Name, in sacreBLEU, of the tokeniser for a code like `de`, `deu`, `zho-CN` or `srp_Latn`; any other is `13a`."""
    return _CHOSEN.get(re.split("[-_]", language.lower())[0], DEFAULT)


class Scorer:
    """BLEU and chrF of translations into one language; case counts, one reference for each sentence.

    Args:
        target: code of the language that is translated into.
    """

    def __init__(self, target: str) -> None:
        self.tokenizer = tokenizer(target)
        # A metric knows its number of references, which its signature states, once it has seen some.
        one = [[""]]
        # `force` only silences a remark on text that looks tokenised.
        self._bleu = BLEU(tokenize=self.tokenizer, force=True, references=one)
        self._chrf = CHRF(references=one)

    def score(self, hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """`bleu` and `chrf` of a corpus, in percent, from 0 to 100.

        Args:
            hypotheses: N translations; an empty one is a translation that says nothing.
            references: N translations to compare with.

        Raises:
            UsageError: the numbers of sentences differ, or are zero.
        """
        if len(hypotheses) != len(references):
            raise UsageError(
                f"{len(hypotheses)} translations cannot be scored against {len(references)} references: "
                "there must be one reference for each."
            )
        if not hypotheses:
            raise UsageError("BLEU and chrF of no sentences are undefined: score at least one.")
        # n-grams of the references are not kept from one evaluation to the next: they are 60 MB for 1,000 of news,
        # and counting them anew takes a quarter of a second.
        against = [list(references)]
        return {
            "bleu": float(self._bleu.corpus_score(list(hypotheses), against).score),
            "chrf": float(self._chrf.corpus_score(list(hypotheses), against).score),
        }

    def signatures(self) -> dict[str, str]:
        """The library's own statement of how `bleu` and `chrf` are computed, with its version."""
        return {"bleu": str(self._bleu.get_signature()), "chrf": str(self._chrf.get_signature())}
