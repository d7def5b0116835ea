"""What similarity follows: permutation tests at their level and with power, clusters by hand, no question alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import adjusted_rand_score

from mtlbench.catalogue.relation import Relation
from mtlbench.geometry.mantel import Association, mantel, partial_mantel
from mtlbench.geometry.proximity import Row, adjusted_rand, agreement, clusters, linkage, proximity, sides

K = 12
FAMILIES = np.repeat(["a", "b", "c", "d"], 3)
SAME = FAMILIES[:, None] == FAMILIES
DISTANCE = np.where(np.eye(K, dtype=bool), 0.0, np.where(SAME, 1.0, 2.0))
DISTANCE[6:, :6] = DISTANCE[:6, 6:] = 3.0
TREE = -DISTANCE
ROUNDS, ORDERS = 300, 199


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(15)


def noise(generator: np.random.Generator, objectives: int = K) -> np.ndarray:
    drawn = generator.standard_normal((objectives, objectives))
    return np.asarray((drawn + drawn.T) / np.sqrt(2))


def p_values(test: Callable[[], Association]) -> np.ndarray:
    return np.array([test().p for _ in range(ROUNDS)])


def is_uniform(p: np.ndarray) -> bool:
    """Whether p-values can be those of tests of what is not there: as a whole, and at the level that people look at."""
    at_level = int((p <= 0.05).sum())
    most = stats.binom.ppf(0.999, len(p), 0.05)
    return bool(stats.kstest(p, "uniform").pvalue > 1e-3 and at_level <= most)


# --- Mantel


def test_mantel_is_the_correlation_over_pairs_of_objectives(generator: np.random.Generator) -> None:
    x, y = noise(generator), noise(generator)
    upper = np.triu_indices(K, 1)
    assert mantel(x, y, 9, generator=generator).r == pytest.approx(np.corrcoef(x[upper], y[upper])[0, 1])
    ranked = mantel(np.exp(3 * x), y, 9, generator=generator, ranks=True).r
    assert ranked == pytest.approx(stats.spearmanr(x[upper], y[upper]).statistic)


def test_p_is_the_share_of_orders_of_objectives_that_go_together_as_well(generator: np.random.Generator) -> None:
    """All 24 orders of four objectives, one by one, against the many drawn."""
    x, y = noise(generator, 4), noise(generator, 4)
    upper = np.triu_indices(4, 1)
    found = [abs(np.corrcoef(x[np.ix_(order, order)][upper], y[upper])[0, 1]) for order in permutations(range(4))]
    exact = np.mean(np.array(found) >= found[0] - 1e-9)
    assert mantel(x, y, 20000, generator=generator).p == pytest.approx(exact, abs=0.015)


def test_p_is_never_zero_and_counts_what_was_found(generator: np.random.Generator) -> None:
    assert mantel(TREE, TREE, 99, generator=generator).p >= 0.01
    assert mantel(TREE, -TREE, 999, generator=generator).p < 0.01  # two-sided


@pytest.mark.parametrize("rows", [0.0, 1.0])
def test_p_of_mantel_is_uniform_where_there_is_nothing(rows: float, generator: np.random.Generator) -> None:
    """Of noise by pairs, and of objectives that are more alike to all others, such as those of high resource."""

    def nothing() -> Association:
        height = rows * generator.standard_normal(K)
        return mantel(noise(generator) + height[:, None] + height, TREE, ORDERS, generator=generator)

    assert is_uniform(p_values(nothing))


def test_p_of_mantel_is_small_where_there_is_something(generator: np.random.Generator) -> None:
    p = p_values(lambda: mantel(0.5 * TREE + noise(generator), TREE, ORDERS, generator=generator))
    assert (p <= 0.05).mean() > 0.8


# --- partial Mantel


def test_the_partial_correlation_is_that_of_what_regression_leaves(generator: np.random.Generator) -> None:
    x, y, first, second = (noise(generator) for _ in range(4))
    x += first + 2 * second
    y += first - second
    upper = np.triu_indices(K, 1)
    design = np.column_stack([np.ones(K * (K - 1) // 2), first[upper], second[upper]])
    left = [m[upper] - design @ np.linalg.lstsq(design, m[upper], rcond=None)[0] for m in (x, y)]
    found = partial_mantel(x, y, np.stack([first, second]), 9, generator=generator)
    assert found.r == pytest.approx(np.corrcoef(*left)[0, 1])
    one = partial_mantel(x, y, first, 9, generator=generator).r
    r = np.corrcoef([x[upper], y[upper], first[upper]])
    assert one == pytest.approx((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)))


def test_p_of_the_partial_test_permutes_what_the_control_leaves_and_takes_the_control_away_again(
    generator: np.random.Generator,
) -> None:
    """All 120 orders of five objectives, one by one, by regression of fitted values and permuted residuals."""
    given = noise(generator, 5)
    x, y = 3 * given + noise(generator, 5), given + noise(generator, 5)
    upper = np.triu_indices(5, 1)
    design = np.column_stack([np.ones(10), given[upper]])

    def left(values: np.ndarray) -> np.ndarray:
        return np.asarray(values - design @ np.linalg.lstsq(design, values, rcond=None)[0])

    residual = np.zeros((5, 5))
    residual[upper] = left(x[upper])
    residual += residual.T
    fitted = x[upper] - left(x[upper])
    orders = [list(order) for order in permutations(range(5))]
    drawn = [np.corrcoef(left(fitted + residual[np.ix_(o, o)][upper]), left(y[upper]))[0, 1] for o in orders]
    exact = np.mean(np.abs(drawn) >= abs(drawn[0]) - 1e-9)
    assert partial_mantel(x, y, given, 20000, generator=generator).p == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("rest", [1.0, 0.3])
def test_a_control_that_explains_everything_leaves_no_more_findings_than_the_level(
    rest: float, generator: np.random.Generator
) -> None:
    """Similarity is made by overlap alone, and overlap follows the tree, more or less closely."""

    def explained() -> Association:
        overlap = TREE + rest * noise(generator)
        return partial_mantel(2 * overlap + noise(generator), TREE, overlap, ORDERS, generator=generator)

    assert is_uniform(p_values(explained))


def test_several_controls_may_explain_it_together(generator: np.random.Generator) -> None:
    def explained() -> Association:
        overlap, much = TREE + noise(generator), generator.standard_normal(K)
        resource = sides(Relation("resource", "amount", "", much))
        controls = np.stack([overlap, *resource.values()])
        similarity = controls.sum(0) + noise(generator)
        return partial_mantel(similarity, TREE, controls, ORDERS, generator=generator)

    assert is_uniform(p_values(explained))


def test_what_a_control_does_not_explain_is_found(generator: np.random.Generator) -> None:
    def half_explained() -> Association:
        overlap = TREE + noise(generator)
        return partial_mantel(overlap + TREE + noise(generator), TREE, overlap, ORDERS, generator=generator)

    assert (p_values(half_explained) <= 0.05).mean() > 0.8


def test_nothing_is_said_of_what_a_control_says_entirely(generator: np.random.Generator) -> None:
    found = partial_mantel(3 * TREE + 1, TREE + noise(generator), TREE, 99, generator=generator)
    assert np.isnan([found.r, found.p]).all()
    assert np.isnan(mantel(np.ones((K, K)), TREE, 9, generator=generator).r)


# --- unknown similarities


def test_objectives_of_which_something_is_unknown_are_left_out_and_named(generator: np.random.Generator) -> None:
    similarity = TREE + 0.1 * noise(generator)
    similarity[4] = similarity[:, 4] = np.nan
    similarity[9, 1] = similarity[1, 9] = np.nan
    kept = [k for k in range(K) if k not in (1, 4)]
    found = mantel(similarity, TREE, 99, generator=generator)
    assert found.left_out == (1, 4)
    assert found.objectives == 10
    assert found.r == pytest.approx(
        mantel(similarity[np.ix_(kept, kept)], TREE[np.ix_(kept, kept)], 9, generator=generator).r
    )
    assert partial_mantel(TREE, TREE + noise(generator), similarity, 9, generator=generator).left_out == (1, 4)
    agreed = agreement(similarity, FAMILIES, 99, generator=generator)
    assert agreed.left_out == (1, 4)
    assert agreed.clusters[4] == 0
    assert agreed.index == pytest.approx(1)


def test_fewer_than_four_objectives_have_no_test(generator: np.random.Generator) -> None:
    three = noise(generator, 3)
    unknown = noise(generator, 5)
    unknown[:2] = unknown[:, :2] = np.nan
    for found in (mantel(three, three, 9, generator=generator), mantel(unknown, unknown, 9, generator=generator)):
        assert np.isnan([found.r, found.p]).all()
        assert found.objectives == 3
    assert np.isnan(partial_mantel(three, three, three, 9, generator=generator).p)
    assert np.isnan(agreement(three, ["a", "a", "b"], 9, generator=generator).index)


@pytest.mark.parametrize("families", ["aaaaa", "abcde"])
def test_one_family_or_five_of_five_are_no_classes_to_find(families: str, generator: np.random.Generator) -> None:
    assert np.isnan(agreement(noise(generator, 5), list(families), 9, generator=generator).index)


# --- clusters


def test_adjusted_rand_indices_by_hand() -> None:
    """Two pairs against two pairs: the same 1; crossed, no pair in common, (0 - 2/3) / (2 - 2/3)."""
    one = [0, 0, 1, 1]
    np.testing.assert_allclose(adjusted_rand(one, np.array([[5, 5, 7, 7], [0, 1, 0, 1]])), [1.0, -0.5])
    # {ab} {cd} against {abc} {d}: 1 pair in common, 2 and 3 pairs, 6 in all: (1 - 1) / (2.5 - 1)
    np.testing.assert_allclose(adjusted_rand(one, np.array([[0, 0, 0, 1]])), [0.0])
    np.testing.assert_allclose(adjusted_rand([0, 0, 0], np.array([[1, 1, 1]])), [1.0])


def test_adjusted_rand_indices_are_those_of_scikit_learn(generator: np.random.Generator) -> None:
    one, others = generator.integers(0, 4, 12), generator.integers(0, 3, (20, 12))
    np.testing.assert_allclose(adjusted_rand(one, others), [adjusted_rand_score(one, other) for other in others])


def test_families_are_found_by_average_linkage_and_not_by_luck(generator: np.random.Generator) -> None:
    found = agreement(SAME + 0.2 * noise(generator), FAMILIES, 999, generator=generator)
    assert found.index == pytest.approx(1)
    assert found.p < 0.01
    assert agreement(SAME, FAMILIES, 9, generator=generator).p >= 0.1  # never below 1 / (m + 1)
    assert len({*found.clusters}) == 4


def test_p_of_clusters_is_no_smaller_than_it_should_be(generator: np.random.Generator) -> None:
    p = np.array([agreement(noise(generator), FAMILIES, 99, generator=generator).p for _ in range(ROUNDS)])
    assert (p <= 0.05).sum() <= stats.binom.ppf(0.999, ROUNDS, 0.05)


def test_average_linkage_merges_by_the_mean_of_similarities() -> None:
    """a-b at .9; c joins them at (.5 + .3) / 2; d joins all at (.1 + .2 + .3) / 3."""
    similarity = np.array([[1, 0.9, 0.5, 0.1], [0.9, 1, 0.3, 0.2], [0.5, 0.3, 1, 0.3], [0.1, 0.2, 0.3, 1]])
    steps = linkage(similarity)
    np.testing.assert_allclose(steps[:, 2], [1 - 0.9, 1 - 0.4, 1 - 0.2])
    np.testing.assert_array_equal(steps[:, 3], [2, 3, 4])
    assert [len({*clusters(similarity, count)}) for count in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert clusters(similarity, 2).tolist() == [1, 1, 1, 2]


def test_cosines_above_one_and_ties_are_clustered_all_the_same() -> None:
    similarity = np.where(SAME, 1.3, 0.0)
    assert linkage(similarity)[:, 2].min() >= 0
    assert len({*clusters(similarity, 4)}) == 4
    assert len({*clusters(np.zeros((6, 6)), 4)}) == 4


# --- the report


def relations(generator: np.random.Generator) -> list[Relation]:
    overlap = TREE + noise(generator)
    return [
        Relation("tree", "distance", "known", DISTANCE),
        Relation("overlap", "similarity", "of subwords", overlap),
        Relation("sentences", "amount", "for training", np.exp(generator.standard_normal(K))),
        Relation("family", "label", "known", FAMILIES),
    ]


def rows() -> list[Row]:
    """Of similarity that overlap makes, where overlap follows the tree."""
    generator = np.random.default_rng(1)
    known = relations(generator)
    similarity = known[1].values + 0.3 * noise(generator)
    start = noise(generator)
    return proximity(similarity, known, untrained=start, permutations=99, generator=generator)


def test_a_question_to_a_tree_is_never_without_its_controls() -> None:
    found = {(row.what, row.against, row.given): row for row in rows()}
    assert [row for row in found if row[1] == "tree"] == [
        ("similarity", "tree", ""),
        ("overlap", "tree", ""),
        ("sentences (much of it)", "tree", ""),
        ("sentences (alike)", "tree", ""),
        ("untrained model", "tree", ""),
        ("similarity", "tree", "overlap"),
        ("similarity", "tree", "sentences"),
        ("similarity", "tree", "overlap and sentences"),
        ("similarity", "tree", "untrained model"),
    ]
    assert [row[0] for row in found if row[1] == "family"] == ["similarity", "overlap", "untrained model"]
    question, given = found["similarity", "tree", ""], found["similarity", "tree", "overlap"]
    assert question.role == "question"
    assert given.role == "given"
    assert found["overlap", "tree", ""].role == "control"
    assert found["similarity", "overlap", ""].role == "rival"


def test_similarity_that_follows_overlap_is_seen_to_do_so_and_not_to_follow_the_tree() -> None:
    found = {(row.what, row.against, row.given): row for row in rows()}
    assert found["similarity", "tree", ""].value > 0.4
    assert found["similarity", "tree", ""].p <= 0.05
    assert abs(found["similarity", "tree", "overlap"].value) < 0.3
    assert found["similarity", "tree", "overlap"].p > 0.05
    assert found["similarity", "overlap", ""].value > 0.9


def test_two_trees_are_each_others_rivals(generator: np.random.Generator) -> None:
    crossed = generator.permutation(K)
    other = Relation("grammar", "distance", "known", DISTANCE[np.ix_(crossed, crossed)])
    known = [Relation("lexicon", "distance", "known", DISTANCE), other]
    similarity = -other.values + 0.3 * noise(generator)
    found = {(r.what, r.against, r.given): r for r in proximity(similarity, known, generator=generator)}
    assert ("similarity", "lexicon", "grammar") in found
    assert found["similarity", "grammar", "lexicon"].p < 0.05
    assert abs(found["similarity", "lexicon", "grammar"].value) < 0.35
    assert ("grammar", "lexicon", "") in found


def test_relations_that_say_nothing_of_pairs_have_no_rows(generator: np.random.Generator) -> None:
    known = [
        Relation("tree", "distance", "known", DISTANCE),
        Relation("overlap", "similarity", "none", np.zeros((K, K))),
        Relation("sentences", "amount", "all alike", np.full(K, 7.0)),
        Relation("family", "label", "one", np.array(["a"] * K)),
    ]
    found = proximity(TREE + noise(generator), known, permutations=9, generator=generator)
    assert [(row.what, row.against, row.given) for row in found] == [("similarity", "tree", "")]


def test_unknown_objectives_are_named_in_every_row_they_are_missing_from(generator: np.random.Generator) -> None:
    similarity = TREE + noise(generator)
    similarity[3] = similarity[:, 3] = np.nan
    found = proximity(similarity, relations(generator), permutations=9, generator=generator)
    for row in found:
        assert row.left_out == ((3,) if row.what == "similarity" else ()), row
        assert row.objectives == K - len(row.left_out)


def test_the_sides_of_relations_are_similarities() -> None:
    amounts = Relation("sentences", "amount", "", np.array([1.0, 10.0, 100.0]))
    both = sides(amounts)
    assert both["sentences (much of it)"][1, 2] == pytest.approx(np.log(10) * 1.5)
    assert both["sentences (alike)"][0, 2] == pytest.approx(-np.log(100))
    plain = sides(Relation("x", "amount", "", np.array([0.0, 2.0])))
    assert plain["x (alike)"][0, 1] == -2
    assert sides(Relation("family", "label", "", np.array(["a", "b", "a"])))["family"].tolist()[0] == [1, 0, 1]
    assert (sides(Relation("tree", "distance", "", DISTANCE))["tree"] == TREE).all()
