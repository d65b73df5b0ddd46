"""The model that a picture is of."""

from __future__ import annotations

from typing import Any

from mvgauss import _checks, _html
from mvgauss._gaussian import MultiVariateGaussian


def fitted_state(model: object) -> Any:
    """Return what a model fitted; refuse another thing."""
    if not isinstance(model, MultiVariateGaussian):
        _checks.refuse("model", "a MultiVariateGaussian", type(model).__name__, TypeError)
    return _html.Interim(model._model())  # INTERIM: return model._model()
