"""A cell of a notebook shows each picture once."""

import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import pyplot as plt

from mvgauss import plot

#: Runs cells as a kernel does, and prints how many pictures each of them showed.
SHELL = """
import sys
from IPython.core.interactiveshell import InteractiveShell

shell, shown = InteractiveShell.instance(), []
shell.displayhook.write_prompt = shell.displayhook.write_output_prompt = lambda: None
shell.displayhook.write_format_data = lambda data, metadata=None: shown.append("image/png" in data)
shell.display_pub.publish = lambda data, *args, **kwargs: shown.append("image/png" in data)
for cell in sys.argv[1:]:
    shown.clear()
    shell.run_cell(cell).raise_error()
    print(sum(shown))
"""

BEFORE = """
import numpy as np
from matplotlib import pyplot as plt
from mvgauss import MultiVariateGaussian, plot
images, maps = np.zeros((2, 8, 8)), np.ones((2, 4, 4))
x = np.random.default_rng(0).normal(size=(9, 2, 3, 4))
model = MultiVariateGaussian().fit(x)
"""

CELLS = {
    "plot.overlay(images, maps)": 1,
    "plot.anomaly_maps(images, maps)": 1,
    "plot.diagnostics(model)": 1,
    "plot.qq(model.mahalanobis(x), model)": 1,
    "plot.ellipse([0, 0], np.eye(2))": 1,
    "figure = plot.overlay(images, maps)": 1,
    "figure": 1,
    "figure.axes[0]": 0,
    "display(plot.overlay(images, maps))": 1,
    "for _ in range(3): plot.overlay(images, maps)": 3,
    "figure = plot.overlay(images, maps); other = plt.subplots(); figure": 2,
    "None": 0,
}


@pytest.mark.slow
def test_a_cell_shows_each_picture_once(tmp_path):
    pytest.importorskip("IPython")
    pytest.importorskip("matplotlib_inline")
    environment = {
        **os.environ,
        "IPYTHONDIR": str(tmp_path),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    command = [sys.executable, "-c", SHELL, BEFORE, *CELLS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert dict(zip(CELLS, map(int, done.stdout.split()[1:]), strict=True)) == CELLS


@pytest.mark.parametrize(("backend", "kept"), [("agg", True), ("inline", False), ("module://ipympl", True)])
def test_only_what_the_end_of_a_cell_would_show_again_is_closed(monkeypatch, backend, kept):
    figure = plot.overlay(np.zeros((1, 4, 4)), np.ones((1, 2, 2)))
    monkeypatch.setattr("matplotlib.get_backend", lambda: backend)
    with pytest.raises(NotImplementedError):  # which makes IPython show it as any other figure
        figure._ipython_display_()
    assert plt.fignum_exists(figure.number) == kept
