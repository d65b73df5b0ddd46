"""What tests of plots share: that they leave nothing behind, and how a figure is drawn."""

import io

import numpy as np
import pytest
from common import frozen

try:
    import matplotlib as mpl
    from matplotlib import pyplot as plt
except ImportError:
    collect_ignore_glob = ["test_*.py"]
else:
    mpl.use("Agg")


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """No setting changes, and every figure that is open was opened for the test."""
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


@pytest.fixture
def drawn():
    """Return a function that draws a figure, which must not be blank, and returns its pixels."""

    def pixels_of(figure):
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=40)
        pixels = plt.imread(io.BytesIO(file.getvalue()))[..., :3]
        assert np.ptp(pixels) > 0.5
        return pixels

    return pixels_of


@pytest.fixture
def pictures(rng):
    """Three images of 8 by 10 pixels in colour, their maps of 4 by 5, and masks."""
    masks = np.zeros((3, 8, 10), bool)
    masks[1, 2:5, 3:7] = True
    return frozen(rng.random((3, 8, 10, 3))), frozen(rng.random((3, 4, 5)) * 7), frozen(masks)
