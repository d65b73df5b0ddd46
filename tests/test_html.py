"""Laws of how a model shows itself: the line, and the card in a notebook."""

import re
import tracemalloc
from html.parser import HTMLParser

import numpy as np
import pytest
from common import frozen
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from mvgauss import MultiVariateGaussian
from mvgauss._model import card as cards

EMPTY = {"path"}


class Reader(HTMLParser):
    """Check that tags are closed in their order; keep the facts, the colours and the cells."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.th, self.td, self.text = [], [], [], [], ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        assert tag in EMPTY
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] == "style":
            return
        self.text += data + "\n"
        if self.open[-1] in ("th", "td"):
            getattr(self, self.open[-1]).append(data)

    @property
    def facts(self):
        return dict(zip(self.th, self.td, strict=True))

    def map(self):
        """Return the levels of the cells of the first picture, -1 where there is nothing."""
        pictures = [i for i, (tag, _) in enumerate(self.tags) if tag == "svg"] + [len(self.tags)]
        columns, rows = map(int, self.tags[pictures[0]][1]["viewbox"].split()[2:])
        levels = np.full((rows, columns), -1)
        for tag, attrs in self.tags[pictures[0] : pictures[1]]:
            if tag == "path":
                for x, y, n in re.findall(r"M(\d+) (\d+)h(\d+)", attrs["d"]):
                    place = levels[int(y), int(x) : int(x) + int(n)]
                    assert (place == -1).all(), "no cell is drawn twice"
                    place[:] = cards.COLOURS.index(attrs["stroke"])
        return levels


def read(model):
    return Reader(model._repr_html_())


def fitted(rng, shape=(9, 3, 4, 5), **parameters):
    return MultiVariateGaussian(**parameters).fit(frozen(rng.normal(size=shape)))


# The line


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ({}, "MultiVariateGaussian()"),
        ({"reg_covar": 0}, "MultiVariateGaussian(reg_covar=0)"),
        ({"reg_covar": np.float64(0.5)}, "MultiVariateGaussian(reg_covar=0.5)"),
        ({"ddof": 1.0, "progress": 0, "reg_covar": np.float64(0.01)}, "MultiVariateGaussian()"),
        (
            {"n_features": 3, "n_patches": np.int64(4)},
            "MultiVariateGaussian(n_features=3, n_patches=4)",
        ),
        ({"dtype": np.float32}, "MultiVariateGaussian(dtype='float32')"),
        ({"dtype": np.dtype(">f8")}, "MultiVariateGaussian(dtype='float64')"),
        ({"shrinkage": "oas", "n_jobs": 2}, "MultiVariateGaussian(shrinkage='oas', n_jobs=2)"),
    ],
)
def test_the_line_has_the_parameters_that_differ_and_makes_the_model_again(parameters, line):
    model = MultiVariateGaussian(**parameters)
    assert repr(model) == line
    again = eval(line)
    assert repr(again) == line
    for name, value in model.get_params().items():
        # a dtype is written by its name
        assert getattr(again, name) == (np.dtype(value).name if name == "dtype" and value else value)


class Secretive:
    def __repr__(self):
        raise RuntimeError("not to be shown")


def test_the_line_survives_parameters_of_any_kind():
    """What is wrong with a parameter is said by `fit`; until then the model can be looked at."""
    model = MultiVariateGaussian(reg_covar=np.ones(2), dtype="no such", shrinkage=float("nan"))
    assert "array([1., 1.])" in repr(model)
    assert "dtype='no such'" in repr(model)
    assert read(model).text.startswith("MultiVariateGaussian(reg_covar=array")
    for bad in (Secretive(), 10**5000, "f4,(", [1], {}, object(), np.ones(3), np.array("x"), np.ma.masked):
        for name in model.get_params():
            model = MultiVariateGaussian().set_params(**{name: bad})
            assert f"({name}=" in repr(model)
            assert f"({name}=" in read(model).text
    del model.ddof
    assert "ddof" not in repr(model)


# The card


def test_an_unfitted_model_says_so():
    assert "not fitted" in read(MultiVariateGaussian()).text
    assert "identity" not in read(MultiVariateGaussian()).text
    assert "zero means and identity covariances" in read(MultiVariateGaussian(3, 4)).text


def test_a_fitted_model_tells_its_sizes(rng):
    model = fitted(rng)
    facts = read(model).facts
    assert facts["samples"] == "9"
    assert facts["features"] == "3"
    assert facts["grid"] == "4 \N{MULTIPLICATION SIGN} 5 = 20 patches"
    assert facts["memory"].endswith(" MB, results in float64")
    assert facts["rank"] == "3 of 3"
    assert facts["samples per feature"] == "3"
    assert facts["p-values"] == "by Hotelling's distribution, at least the exact ones"
    assert "threshold" not in facts


def test_the_distribution_and_the_threshold_are_told(rng):
    x = frozen(rng.normal(size=(30, 2, 3)))
    exact = read(MultiVariateGaussian(reg_covar=0).fit(x)).facts
    assert exact["p-values"] == "by Hotelling's distribution, exact"
    few = read(MultiVariateGaussian().fit(x[:2])).facts
    assert few["p-values"] == "none before calibrate()"
    model = MultiVariateGaussian().fit(x).calibrate(x)
    limit = model.threshold(x, 0.1, source="training")
    facts = read(model).facts
    assert facts["p-values"] == "by leave-one-out distances of 30 images"
    assert float(facts["threshold"]) == pytest.approx(limit, rel=5e-3)


@pytest.mark.parametrize(
    ("n", "parameters", "text"),
    [
        (7, {}, "1.4"),
        (5, {"reg_covar": 0}, "1, too few with neither ridge nor shrinkage"),
        (2, {"reg_covar": 0}, "0.4, too few with neither ridge nor shrinkage"),
        (2, {"reg_covar": 0, "shrinkage": 0.1}, "0.4"),
        (2, {}, "0.4"),
    ],
)
def test_no_more_samples_than_features_ask_for_regularisation(rng, n, parameters, text):
    assert read(fitted(rng, (n, 5, 3), **parameters)).facts["samples per feature"] == text


def test_a_model_without_moments_says_what_it_cannot_do(rng):
    model = fitted(rng)
    card = read(MultiVariateGaussian.from_parameters(*model))
    assert card.facts["samples"].startswith("unknown")
    assert card.facts["fitting"].startswith("not possible")
    assert "samples per feature" not in card.facts
    assert card.facts["p-values"] == "by chi-squared, of a known Gaussian"
    # the geometric mean of the standard deviations, which are the roots of the eigenvalues
    want = np.exp(np.log(np.linalg.eigvalsh(model.covariance)).mean(axis=1) / 2)
    low, high = re.match(r"(\S+) \N{EN DASH} (\S+), the geometric", card.facts["standard deviation"]).groups()
    assert_allclose([float(low), float(high)], [want.min(), want.max()], rtol=5e-3)


def test_parameters_set_since_are_told_from_those_fitted(rng):
    model = fitted(rng)
    assert "fitted with" not in read(model).facts
    model.set_params(reg_covar=0.5)
    assert read(model).facts["fitted with"] == "ddof=1.0, reg_covar=0.01, shrinkage=None"


def test_the_card_factors_nothing(rng, monkeypatch):
    model = MultiVariateGaussian(reg_covar=0).partial_fit(frozen(rng.normal(size=(9, 3, 4, 5))))

    def forbidden(*args, **kwargs):
        raise AssertionError("a decomposition")

    for name in ("eigh", "svd", "cholesky", "inv", "qr", "eigvalsh"):
        monkeypatch.setattr(np.linalg, name, forbidden)
    for _ in range(2):
        facts = read(model).facts
        assert facts["rank"] == "known after the first score"
        assert "condition number" not in facts
        assert facts["standard deviation"]


def numbers(text):
    """Return the numbers of a range."""
    return [float(v) for v in re.findall(r"[\d.]+(?:e-?\d+)?", text.replace(",", ""))]


@given(
    st.integers(0, 99),
    st.sampled_from([2, 3, 20]),
    st.integers(1, 8),
    st.sampled_from([0, 1e-3, 1e4]),
    st.sampled_from([None, 0.3, "oas"]),
)
def test_the_condition_is_that_of_the_diagnostics(seed, n, c, ridge, shrinkage):
    x = np.random.default_rng(seed).normal(size=(n, c, 4)) * np.geomspace(1, 100, c)[:, None]
    model = MultiVariateGaussian(reg_covar=ridge, shrinkage=shrinkage).fit(frozen(x))
    truth = model.diagnostics()["condition"]
    text, found, *rest = read(model).facts["condition number"].partition("infinite")
    if np.isfinite(truth).any():
        finite = truth[np.isfinite(truth)]
        got = numbers(text)
        assert_allclose([got[0], got[-1]], [finite.min(), finite.max()], rtol=5.001e-3)
    assert bool(found) == np.isinf(truth).any()
    if found:
        assert numbers(rest[0]) == [np.isinf(truth).sum(), 4]


def test_of_large_factors_the_condition_of_some_is_computed(rng, monkeypatch):
    model = fitted(rng)
    truth = model.diagnostics()["condition"].ravel()[::4]
    monkeypatch.setattr(cards, "WORK", 5 * 3**3)
    text = read(model).facts["condition number"]
    assert text.endswith(" in 5 of 20 patches, see diagnostics()")
    assert_allclose(numbers(text)[:2], [truth.min(), truth.max()], rtol=5.001e-3)
    monkeypatch.setattr(cards, "WORK", 3**3 - 1)
    assert read(model).facts["condition number"] == "see diagnostics()"


# The map


def test_the_map_has_the_root_of_the_mean_variance(rng):
    x = frozen(rng.normal(size=(9, 3, 4, 5)) * np.arange(1, 6))
    model = MultiVariateGaussian(reg_covar=0).fit(x)
    want = np.sqrt(np.trace(model.covariance, axis1=1, axis2=2) / 3).reshape(4, 5)
    scaled = (want - want.min()) / np.ptp(want)
    steps = len(cards.COLOURS)
    np.testing.assert_array_equal(read(model).map(), np.minimum(np.floor(scaled * steps), steps - 1))


def test_a_large_map_is_averaged_and_says_so(rng):
    card = read(fitted(rng, (4, 1, 130, 65)))
    assert card.map().shape == (44, 22)
    assert "a cell is a mean over 3 patches along each axis" in card.text
    assert len(fitted(rng, (4, 1, 130, 65))._repr_html_()) < 50_000
    strip = read(fitted(rng, (4, 1, 400)))
    assert strip.map().shape == (1, 134)
    assert "a cell is a mean over 3 patches\n" in strip.text


@pytest.mark.parametrize(("grid", "step"), [((71, 99), 2), ((3, 150), 3), ((1, 400), 3), ((150, 3), 3)])
def test_cells_of_a_large_map_are_means_of_the_deviations(rng, grid, step):
    model = fitted(rng, (4, 1, *grid), reg_covar=0)
    deviations = np.sqrt(model.covariance).reshape(grid)
    rows, columns = (range(0, side, step) for side in grid)
    want = np.array([[deviations[i : i + step, j : j + step].mean() for j in columns] for i in rows])
    scaled = (want - deviations.min()) / np.ptp(deviations)
    np.testing.assert_array_equal(read(model).map(), np.floor(scaled * len(cards.COLOURS)))


@pytest.mark.parametrize("grid", [(1, 20_000), (2, 10_000)])
def test_a_long_map_takes_no_more_memory_than_a_few_copies_of_its_deviations(rng, grid):
    model = fitted(rng, (3, 1, *grid))
    model._repr_html_()  # what is imported or cached at the first time does not count
    tracemalloc.start()
    model._repr_html_()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 8 * 20_000


def test_slices_lie_side_by_side(rng):
    model = fitted(rng, (6, 2, 5, 3, 4))
    card = read(model)
    levels = card.map()
    assert levels.shape == (2 * 3 + 1, 3 * 4 + 2)
    assert (levels[3] == -1).all()
    assert (levels[:, [4, 9]] == -1).all()
    assert (levels[4:, 10:] == -1).all()
    assert (levels >= 0).sum() == 5 * 12
    assert "all 5 slices" in card.text
    assert "the first 12 of 20 slices" in read(fitted(rng, (3, 1, 20, 2, 2))).text


def test_gaps_between_slices_are_empty_where_deviations_are_zero_too(rng):
    x = rng.normal(size=(6, 1, 5, 40, 40))
    x[:, :, 0] = 0
    levels = read(MultiVariateGaussian(reg_covar=0).fit(frozen(x))).map()
    assert levels.shape == (2 * 20 + 1, 3 * 20 + 2), "64 cells along an axis are those of all slices"
    assert (levels[:20, :20] == 0).all()
    assert (levels[20] == -1).all()
    assert (levels[:, [20, 41]] == -1).all()


@pytest.mark.parametrize(
    ("grid", "size"),
    [
        ((4, 5), (170, 136)),
        ((7, 1), (24, 168)),
        ((1, 7), (168, 18)),
        ((7,), (168, 18)),
        ((130, 65), (66, 132)),
    ],
)
def test_cells_are_squares_or_those_of_a_strip_that_can_be_seen(rng, grid, size):
    attributes = next(attrs for tag, attrs in read(fitted(rng, (4, 1, *grid))).tags if tag == "svg")
    assert (int(attributes["width"]), int(attributes["height"])) == size


def test_the_card_loads_nothing_and_knows_no_theme(rng):
    html = fitted(rng)._repr_html_()
    assert "url(" not in html
    assert "src=" not in html
    assert html.count("http") == html.count('xmlns="http://www.w3.org/2000/svg"')
    colours = re.findall(r"(?<!-)color:([^;}]+)", cards.STYLE)
    assert {colour.removesuffix("!important") for colour in colours} == {"inherit"}


def test_a_notebook_that_is_not_trusted_shows_a_table(rng):
    """It drops styles and pictures, and keeps the texts inside of pictures."""
    html = re.sub(r"<style>.*?</style>", "", fitted(rng)._repr_html_(), flags=re.DOTALL)
    card = Reader(re.sub("</?(svg|path)[^>]*>", "", html))
    lines = card.text.splitlines()
    table = lines[
        lines.index("samples") : lines.index("by Hotelling's distribution, at least the exact ones") + 1
    ]
    assert table == [text for fact in card.facts.items() for text in fact]
    assert lines[-1] == "standard deviation by patch"
    # no tag but these is needed to read it
    assert {tag for tag, _ in card.tags} == {"div", "code", "span", "table", "tbody", "tr", "th", "td"}
