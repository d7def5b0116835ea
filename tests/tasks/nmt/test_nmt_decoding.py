"""Beam search finds what it says it finds, with cache and without, in any batch; its scores are the model's."""

import itertools
import math

import pytest
import torch

from mtlbench.errors import UsageError
from mtlbench.tasks.nmt import decoding
from mtlbench.tasks.nmt.decoding import decode, forced_log_probabilities, translate
from mtlbench.tasks.nmt.model import Size, Transformer
from mtlbench.tasks.nmt.sampling import Symbols

PAD, BOS, EOS = SYMBOLS = Symbols(pad=0, bos=1, eos=2)
CPU = torch.device("cpu")


def transformer(vocabulary=12, seed=0, sharpness=1.0):
    """A random float64 model, whose sentences end at different times."""
    torch.manual_seed(seed)
    model = Transformer(vocabulary, Size(layers=2, width=16, inner=32, heads=2), 0.0).double().eval()
    # With the norm's gain of one, tied embeddings make a random model repeat what it wrote last.
    torch.nn.init.normal_(model.decoder.norm.weight, std=sharpness)
    return model.requires_grad_(False)


def padded(sources):
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(s) for s in sources], batch_first=True, padding_value=PAD)


def random_sources(count, vocabulary=12, seed=0, longest=9):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest, (count,), generator=generator).tolist()
    return [[*torch.randint(3, vocabulary, (n,), generator=generator).tolist(), EOS] for n in lengths]


def search(model, sources, beams=4, length_penalty=1.0, longest=12, **more):
    rows = padded(sources)
    return decode(model, rows, beams=beams, length_penalty=length_penalty, longest=longest, symbols=SYMBOLS, **more)


def forced(model, sources, translations):
    target_in = padded([[BOS, *t] for t in translations])
    target_out = padded([[*t, EOS] for t in translations])
    with torch.no_grad():
        return forced_log_probabilities(model, padded(sources), target_in, target_out, PAD)


class Prescribed:
    """A model of given probabilities: first source subword -> what is written -> probability of the next.

    What is not listed has probability zero, and where nothing is listed the end is certain.
    """

    def __init__(self, vocabulary, tables):
        self.vocabulary = vocabulary
        self.tables = tables
        self.rows = []

    def log_p(self, source, prefix):
        table = self.tables[int(source)].get(tuple(prefix), {EOS: 1.0})
        return torch.tensor([table.get(v, 0.0) for v in range(self.vocabulary)], dtype=torch.float64).log()

    def start(self, source, beams, longest):
        return Remembered(source[:, 0].repeat_interleave(beams), beams)

    def step(self, last, cache):
        self.rows.append(len(last))
        cache.written = torch.cat([cache.written, last[:, None]], 1)
        return torch.stack([self.log_p(s, w[1:].tolist()) for s, w in zip(cache.source, cache.written, strict=True)])

    def logits(self, features):
        return features


class Remembered:
    def __init__(self, source, beams):
        self.source, self.beams = source, beams
        self.written = source.new_empty((len(source), 0))

    def reorder(self, rows):
        assert torch.equal(rows // self.beams, torch.arange(len(rows)) // self.beams)
        self.written = self.written[rows]

    def keep(self, sentences):
        rows = (sentences[:, None] * self.beams + torch.arange(self.beams)).flatten()
        self.source, self.written = self.source[rows], self.written[rows]


def prescribed(table, beams, length_penalty=0.0, longest=10, **more):
    """The winner of one sentence under a table."""
    return search(Prescribed(7, {3: table}), [[3, EOS]], beams, length_penalty, longest, **more)[0]


# --- the search against other ways to the same answer ------------------------------------------------------


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_with_cache_and_without_the_same_subwords_are_found(beams, seed):
    model, sources = transformer(seed=seed), random_sources(20, seed=seed)
    limits = torch.arange(20) + 1
    cached, recomputed = (search(model, sources, beams, longest=limits, cached=c) for c in (True, False))
    assert [h.subwords for h in cached] == [h.subwords for h in recomputed]
    assert torch.tensor([h[1:] for h in cached]).allclose(torch.tensor([h[1:] for h in recomputed]), atol=1e-10, rtol=0)
    assert len({len(h.subwords) for h in cached}) >= 4


@pytest.mark.parametrize("seed", range(3))
def test_one_beam_is_greedy_decoding(seed):
    model, sources = transformer(seed=seed), random_sources(20, seed=seed)
    found = search(model, sources, beams=1)
    for source, hypothesis in zip(sources, found, strict=True):
        written = []
        while len(written) < 11:
            logits = model.logits(model(torch.tensor([source]), torch.tensor([[BOS, *written]])))[0, -1]
            logits[[PAD, BOS]] = -torch.inf
            if (subword := int(logits.argmax())) == EOS:
                break
            written.append(subword)
        assert hypothesis.subwords == written


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0, -0.5])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_that_holds_everything_finds_the_best_of_all_translations(alpha, seed):
    model, sources = transformer(vocabulary=6, seed=seed), random_sources(5, 6, seed)
    everything = [list(t) for n in range(4) for t in itertools.product([3, 4, 5], repeat=n)]
    found = search(model, sources, beams=len(everything) + 1, length_penalty=alpha, longest=4)
    for source, hypothesis in zip(sources, found, strict=True):
        log_p = forced(model, [source] * len(everything), everything)
        score = log_p / torch.tensor([(len(t) + 1.0) ** alpha for t in everything], dtype=torch.float64)
        best = int(score.argmax())
        assert hypothesis.subwords == everything[best]
        assert hypothesis.log_probability == pytest.approx(log_p[best].item(), abs=1e-10)
        assert hypothesis.score == pytest.approx(score[best].item(), abs=1e-10)


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_the_log_probability_of_a_winner_is_that_of_a_forced_decode(beams):
    model, sources = transformer(), random_sources(30)
    found = search(model, sources, beams, longest=5)
    expected = forced(model, sources, [h.subwords for h in found])
    reported = torch.tensor([h.log_probability for h in found], dtype=torch.float64)
    assert torch.allclose(reported, expected, rtol=0, atol=1e-10)
    assert {len(h.subwords) for h in found} >= {4, 1}  # also of those whose end the limit forced


def test_a_forced_decode_sums_the_log_probabilities_of_the_subwords_and_the_end():
    model = transformer()
    sources, translations = [[5, 6, EOS], [7, EOS]], [[8], [3, 4, 9]]
    found = forced(model, sources, translations)
    for source, translation, log_p in zip(sources, translations, found, strict=True):
        probabilities = model.logits(model(torch.tensor([source]), torch.tensor([[BOS, *translation]])))[0].softmax(-1)
        product = math.prod(float(p[v]) for p, v in zip(probabilities, [*translation, EOS], strict=True))
        assert math.exp(log_p) == pytest.approx(product, rel=1e-10)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_sentence_is_decoded_the_same_alone_and_in_any_batch(beams):
    model, sources = transformer(), random_sources(25)
    together = search(model, sources, beams)
    for source, hypothesis in zip(sources, together, strict=True):
        alone = search(model, [source], beams)[0]
        assert alone.subwords == hypothesis.subwords
        assert alone.score == pytest.approx(hypothesis.score, abs=1e-10)


def test_under_bfloat16_autocast_scores_are_float32_sums_close_to_the_models_own():
    model, sources = transformer(vocabulary=40).float(), random_sources(10, 40)
    with torch.autocast("cpu", torch.bfloat16):
        found = search(model, sources)
    expected = forced(model, sources, [h.subwords for h in found])
    for hypothesis, log_p in zip(found, expected, strict=True):
        assert hypothesis.log_probability == pytest.approx(log_p.item(), rel=0.02)


# --- the rules of the search, by hand ----------------------------------------------------------------------

GREEDY_IS_WRONG = {
    (): {3: 0.6, 4: 0.4},
    (3,): {5: 0.5, 6: 0.5},
    (4,): {5: 0.9, EOS: 0.1},
}


def test_two_beams_find_what_greedy_decoding_misses():
    assert prescribed(GREEDY_IS_WRONG, beams=1).subwords == [3, 5]
    found = prescribed(GREEDY_IS_WRONG, beams=2)
    assert found.subwords == [4, 5]
    assert found.log_probability == pytest.approx(math.log(0.4 * 0.9))


def test_the_length_penalty_divides_by_a_power_of_the_length_with_the_end():
    table = {(): {EOS: 0.3, 3: 0.7}, (3,): {4: 0.5, 5: 0.3, 6: 0.2}, (3, 4): {EOS: 0.8, 3: 0.2}}
    short, long = math.log(0.3), math.log(0.7 * 0.5 * 0.8)  # one symbol, three symbols; 0.3 > 0.28
    turn = math.log(long / short) / math.log(3)  # short / 1 = long / 3^alpha
    for alpha, subwords, score in [
        (0.0, [], short),
        (turn - 0.01, [], short),
        (turn + 0.01, [3, 4], long / 3 ** (turn + 0.01)),
        (1.0, [3, 4], long / 3),
    ]:
        found = prescribed(table, 3, alpha)
        assert found.subwords == subwords
        assert found.score == pytest.approx(score)


def test_a_sentence_is_decoded_when_as_many_hypotheses_as_beams_have_finished():
    table = {(): {EOS: 0.4, 3: 0.6}, (3,): {EOS: 0.55, 4: 0.45}, (3, 4): {EOS: 1.0}}
    # Under this penalty the third hypothesis would be the best: log(0.6 * 0.45) / 3^3 > log(0.6 * 0.55) / 2^3.
    assert prescribed(table, 2, 3.0).subwords == [3]
    assert prescribed(table, 3, 3.0).subwords == [3, 4]


def test_an_end_that_is_not_among_the_first_candidates_does_not_finish():
    table = {(): {3: 0.5, 4: 0.4, EOS: 0.1}, (3,): {5: 0.1, 6: 0.1, 3: 0.1, 4: 0.7}, (3, 4): {5: 0.1, EOS: 0.9}}
    for alpha in (-9.0, 0.0):  # even where the empty translation would score best
        assert prescribed(table, 1, alpha).subwords == [3, 4]


def test_no_step_is_taken_once_nothing_unfinished_can_win():
    model = Prescribed(7, {3: {(): {EOS: 0.9, 3: 0.1}, **{(3,) * n: {3: 1.0} for n in range(1, 10)}}})
    assert search(model, [[3, EOS]], 2, 0.0)[0].subwords == []
    assert len(model.rows) == 1
    # The mean per subword of 0.1 over eleven certain ones is better than that of 0.9 alone only from 22 on.
    assert search(model, [[3, EOS]], 2, 1.0, longest=21)[0].subwords == []
    assert len(model.rows) == 2


def test_the_search_goes_on_while_something_unfinished_can_still_win():
    certain = {(3,) * n: {3: 1.0} for n in range(1, 8)}
    found = prescribed({(): {EOS: 0.8, 3: 0.2}, **certain}, 2, 1.0)  # log(0.2) / 9 > log(0.8) > log(0.2) / 7
    assert found.subwords == [3] * 8
    assert prescribed({(): {EOS: 0.1, 3: 0.9}}, 2, -1.0, longest=30).subwords == [3]  # 2 log(0.9) > log(0.1)


def test_at_the_limit_hypotheses_end_and_their_end_is_scored():
    table = {(): {3: 1.0}, (3,): {3: 0.6, 4: 0.2, EOS: 0.2}, (3, 3): {3: 0.9, EOS: 0.1}, (3, 4): {3: 0.1, EOS: 0.9}}
    assert prescribed(table, 1, longest=3).subwords == [3, 3]
    found = prescribed(table, 2, longest=3)
    assert found.subwords == [3]
    assert found.log_probability == pytest.approx(math.log(0.2))
    found = prescribed(table, 1, longest=2)
    assert (found.subwords, found.log_probability) == ([3], pytest.approx(math.log(0.2)))
    assert prescribed({(): {3: 0.9, EOS: 0.1}}, 1, longest=1)[:2] == ([], pytest.approx(math.log(0.1)))


def test_each_sentence_has_its_own_limit():
    model, sources = transformer(), [[5, 6, EOS]] * 4
    limits = torch.tensor([4, 1, 3, 2])
    together = search(model, sources, 2, longest=limits)
    assert [h.subwords for h in together] == [search(model, sources[:1], 2, longest=int(n))[0].subwords for n in limits]
    assert all(len(h.subwords) < n for h, n in zip(together, limits, strict=True))


def test_padding_beginning_and_forbidden_subwords_are_never_written_and_cost_the_others_nothing():
    table = {(): {PAD: 0.3, BOS: 0.3, 3: 0.2, 4: 0.15, EOS: 0.05}, (4,): {3: 0.6, EOS: 0.4}}
    found = prescribed(table, 1, forbidden=[3])
    assert found.subwords == [4]
    assert found.log_probability == pytest.approx(math.log(0.15 * 0.4))
    model, sources = transformer(), random_sources(20)
    written = {v for h in search(model, sources, 3, forbidden=[5, 9]) for v in h.subwords}
    assert written
    assert not written & {PAD, BOS, EOS, 5, 9}


def test_equal_candidates_rank_by_end_then_hypothesis_then_subword():
    assert prescribed({(): {EOS: 0.5, 3: 0.5}}, 1).subwords == []
    assert prescribed({(): {5: 0.5, 4: 0.5}}, 1).subwords == [4]
    even = {(): {3: 0.25, 4: 0.25, 5: 0.25, 6: 0.25}, (3,): {5: 0.5, 6: 0.5}, (4,): {5: 0.5, 6: 0.5}}
    assert prescribed(even, 2).subwords == [3, 5]
    assert prescribed({**even, (3, 5): {3: 0.5, 4: 0.5}}, 2).subwords == [3, 6]
    # Of equal scores the shorter translation wins: 0.25 = 0.5 * 0.5.
    assert prescribed({(): {3: 0.5, EOS: 0.25, 4: 0.25}, (3,): {EOS: 0.5, 4: 0.5}}, 2).subwords == []


def test_sentences_leave_the_batch_as_soon_as_they_are_decoded():
    endless = {(4,) * n: {4: 1.0} for n in range(5)}
    tables = {3: {}, 4: endless, 5: {(): {3: 1.0}}}
    model = Prescribed(7, tables)
    found = search(model, [[3, EOS], [4, EOS], [5, EOS], [3, EOS]], beams=2)
    assert [h.subwords for h in found] == [[], [4] * 5, [3], []]
    assert model.rows == [8, 4, 2, 2, 2, 2]


def test_a_model_without_any_possible_translation_yields_an_empty_one_of_probability_zero():
    found = prescribed({(): {PAD: 1.0}}, 2)
    assert (found.subwords, found.log_probability) == ([], -math.inf)
    model = transformer()
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    assert search(model, [[5, EOS]], 2)[0].subwords == []


# --- translate ---------------------------------------------------------------------------------------------


def translated(model, sources, **changed):
    settings = {"batch_positions": 60, "beams": 2, "length_penalty": 1.0, "symbols": SYMBOLS, "device": CPU}
    return translate(model, sources, **settings | {"length_ratio": [2.0] * len(sources)} | changed)


@pytest.mark.parametrize("positions", [1, 37, 10_000])
def test_translations_come_in_the_order_of_their_sources_whatever_the_batches(positions):
    model, sources = transformer(), random_sources(30)
    expected = [search(model, [s], 2, longest=2 * len(s) + 10)[0].subwords for s in sources]
    assert translated(model, sources, batch_positions=positions) == expected


def test_batches_hold_so_many_positions_of_all_beams_or_a_single_sentence(monkeypatch):
    seen, found = [], [decoding.Hypothesis([], 0.0, 0.0)]
    monkeypatch.setattr(decoding, "decode", lambda model, source, **more: seen.append(source) or found * len(source))
    sources = random_sources(40, longest=30)
    translated(transformer(), sources, batch_positions=50, beams=2)
    assert sum(len(s) for s in seen) == 40
    assert all(s.numel() * 2 <= 50 or len(s) == 1 for s in seen)
    assert any(len(s) > 1 for s in seen)
    assert sum(s.numel() for s in seen) < 1.2 * sum(len(s) for s in sources)  # little padding


def test_the_limit_grows_with_the_source_up_to_a_maximum():
    model = Prescribed(7, {3: {(4,) * n: {4: 0.9, EOS: 0.1} for n in range(100)}})
    sources = [[3] * n for n in (1, 4, 30)]
    assert [len(t) + 1 for t in translated(model, sources, beams=1)] == [12, 18, 70]
    more = {"length_ratio": [1.5] * 3, "length_extra": 2, "length_max": 40, "beams": 1}
    assert [len(t) + 1 for t in translated(model, sources, **more)] == [3, 8, 40]
    more = {"length_ratio": [2, 1, 3], "length_extra": 1, "beams": 1}  # each source has its own
    assert [len(t) + 1 for t in translated(model, sources, **more)] == [3, 5, 91]


def test_what_cannot_be_decoded_is_refused():
    model = transformer()
    assert translated(model, []) == []
    with pytest.raises(UsageError, match="source 1 has no subwords"):
        translated(model, [[4, EOS], []])
    with pytest.raises(UsageError, match="at least one beam"):
        search(model, [[4, EOS]], beams=0)
    with pytest.raises(UsageError, match="room for at least one subword"):
        search(model, [[4, EOS]], longest=0)
