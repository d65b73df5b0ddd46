"""Names of features: the columns of a data frame, in scikit-learn's words."""

import warnings

import numpy as np

from mvgauss import _arguments
from mvgauss._arguments import Array


def of(value: object) -> Array | None:
    """Return the names of the columns of a data frame, if all are strings."""
    columns = getattr(value, "columns", None)
    if columns is None:
        return None
    names = np.asarray(list(columns), dtype=object)
    strings = [isinstance(name, str) for name in names]
    if any(strings) and not all(strings):
        kinds = sorted({type(name).__qualname__ for name in names})
        raise TypeError(
            "Feature names are only supported if all input features have string names, but your input "
            f"has {kinds} as feature name / column name types"
        )
    return names if any(strings) else None


def check(fitted: Array | None, given: Array | None, estimator: str) -> None:
    """Refuse other names than those that were fitted; warn where only one side has any."""
    if fitted is None or given is None:
        have, was = ("has", "without") if fitted is None else ("does not have valid", "with")
        message = f"X {have} feature names, but {estimator} was fitted {was} feature names"
        if fitted is not given:
            warnings.warn(message, UserWarning, stacklevel=_arguments.outside())
        return
    if fitted.tolist() == given.tolist():
        return
    message = "The feature names should match those that were passed during fit.\n"
    unseen, missing = set(given) - set(fitted), set(fitted) - set(given)
    for when, names in (("unseen at fit time", unseen), ("seen at fit time, yet now missing", missing)):
        if names:
            listed = "".join(f"- {name}\n" for name in sorted(names)[:5])
            message += f"Feature names {when}:\n{listed}" + "- ...\n" * (len(names) > 5)
    if not unseen and not missing:
        message += "Feature names must be in the same order as they were in fit.\n"
    raise ValueError(message)


def loaded(names: object, n_features: int) -> Array | None:
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != n_features or not all(isinstance(s, str) for s in names):
        _arguments.raise_error("feature_names", f"{n_features} strings", _arguments.briefly(names))
    return np.asarray(names, dtype=object)
