"""What plots refuse."""

import importlib
import sys

import numpy as np
import pytest
from common import frozen
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from mvgauss import MultiVariateGaussian, plot

X = frozen(np.random.default_rng(0).normal(size=(9, 2, 3, 4)))
MODEL = MultiVariateGaussian().fit(X)
IMAGES, MAPS = np.zeros((2, 6, 6)), np.ones((2, 3, 3))


#: What a message says, and the call that it is the answer to.
REFUSED = {
    r"images: .*transpose\(0, 2, 3, 1": lambda: plot.anomaly_maps(np.zeros((2, 3, 6, 6)), MAPS),
    r"images: expected shape .*\(6, 6\)": lambda: plot.anomaly_maps(np.zeros((6, 6)), MAPS),
    "images: expected floats from 0 to 1.*undo": lambda: plot.anomaly_maps(IMAGES - 2.1, MAPS),
    "images: .*from 0 to 255, got 256": lambda: plot.anomaly_maps(np.full((2, 6, 6), 256), MAPS),
    r"maps: expected shape \(2, height, width\)": lambda: plot.anomaly_maps(IMAGES, MAPS[0]),
    r"maps: .*2 images, got shape \(1, 3, 3\)": lambda: plot.anomaly_maps(IMAGES, MAPS[:1]),
    r"maps: .*NaN at index \(0, 0, 0\)": lambda: plot.anomaly_maps(IMAGES, MAPS * np.nan),
    r"masks: expected shape \(2,": lambda: plot.anomaly_maps(IMAGES, MAPS, MAPS[0]),
    "titles: expected 2 titles": lambda: plot.anomaly_maps(IMAGES, MAPS, titles=["a"]),
    "titles: expected 2 titles.*": lambda: plot.overlay(IMAGES, MAPS, titles="ab"),
    "vmax: expected a finite real number > 0": lambda: plot.anomaly_maps(IMAGES, MAPS, vmax=0),
    "columns: expected an integer >= 1": lambda: plot.anomaly_maps(IMAGES, MAPS, columns=0),
    "fig: expected a Figure of matplotlib, got int": lambda: plot.anomaly_maps(IMAGES, MAPS, fig=3),
    "cmap: expected the name .*'no such'": lambda: plot.anomaly_maps(IMAGES, MAPS, cmap="no such"),
    r"maps: expected shape \(8, .*single image and its map need .*image\[None\]": lambda: plot.overlay(
        np.zeros((8, 9, 3)), MAPS[0]
    ),
    "limit: expected a finite real number >= 0": lambda: plot.overlay(IMAGES, MAPS, -1),
    "limit: expected a finite real number.* str": lambda: plot.overlay(IMAGES, MAPS, "5"),
    "limit: expected a finite real number >= 0, got -2": lambda: plot.anomaly_maps(IMAGES, MAPS, limit=-2),
    "alpha: expected .* > 0, got 0": lambda: plot.overlay(IMAGES, MAPS, alpha=0),
    "alpha: expected .*at most 1, got 1.5": lambda: plot.overlay(IMAGES, MAPS, alpha=1.5),
    "model: expected a MultiVariateGaussian, got str": lambda: plot.diagnostics("model"),
    "not fitted yet": lambda: plot.diagnostics(MultiVariateGaussian()),
    "axes: expected 4 Axes": lambda: plot.diagnostics(MODEL, axes=Figure().subplots(1, 3)),
    r"mean: expected shape \(2,\), got shape \(3,\)": lambda: plot.ellipse([0, 0, 0], np.eye(2)),
    r"covariance: expected shape \(2, 2\)": lambda: plot.ellipse([0, 0], np.eye(3)),
    "covariance: expected a symmetric matrix": lambda: plot.ellipse([0, 0], [[1, 2], [3, 4]]),
    "covariance: .*semi-definite.*eigenvalue -1": lambda: plot.ellipse([0, 0], [[1, 2], [2, 1]]),
    "level: expected .*between 0 and 1, got 1": lambda: plot.ellipse([0, 0], np.eye(2), level=1),
    "level: expected a finite real number": lambda: plot.ellipse([0, 0], np.eye(2), level="95"),
    "level: expected": lambda: plot.ellipse([0, 0], np.eye(2), level=[0.5, 0]),
    "ax: expected Axes .*got Figure": lambda: plot.ellipse([0, 0], np.eye(2), ax=Figure()),
    r"distances: expected shape \(M, 3, 4\), got": lambda: plot.qq(np.ones((2, 3, 5)), MODEL),
    "distances: expected shape": lambda: plot.qq(np.zeros((0, 3, 4)), MODEL),
    "distances: expected numbers >= 0, got -1": lambda: plot.qq(-np.ones((2, 3, 4)), MODEL),
    "model: expected a MultiVariateGaussian": lambda: plot.qq(np.ones((2, 3, 4)), None),
    r"p_value: expected .*: model\.calibrate\(train\)": lambda: plot.qq(
        np.ones((2, 3, 4)), MultiVariateGaussian().fit(X[:2])
    ),
}


@pytest.mark.parametrize("message", list(REFUSED))
def test_errors_name_the_argument_and_leave_no_figure(message):
    with pytest.raises((TypeError, ValueError), match=message):
        REFUSED[message]()
    assert not plt.get_fignums()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("mvgauss.plot")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'mvgauss\[plot\]'"):
        importlib.import_module("mvgauss.plot")
