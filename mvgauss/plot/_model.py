"""The model that a picture is of."""

from __future__ import annotations

from mvgauss import _checks
from mvgauss._fitted import Fitted
from mvgauss._gaussian import MultiVariateGaussian


def fitted_state(model: object) -> Fitted:
    """Return what a model fitted; refuse another thing."""
    if not isinstance(model, MultiVariateGaussian):
        _checks.raise_error("model", "a MultiVariateGaussian", type(model).__name__, TypeError)
    return model._model()
