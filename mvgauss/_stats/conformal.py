"""Limits and p-values of any score, from the scores of good images alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._stats import distributions


def conformal_threshold(scores: ArrayLike, false_positive_rate: float = 0.01) -> float:
    r"""Limit that a new good image exceeds with at most the given probability.

    Parameters
    ----------
    scores : array_like, shape (n,)
        Scores of n good images that were not used in fitting; larger scores are more anomalous.
    false_positive_rate : float, default 0.01
        Fraction of good images that may be flagged as defective, between 0 and 1.

    Returns
    -------
    float
        The limit: an image is defective if its score is larger.

    Raises
    ------
    ValueError, TypeError
        If the rate is too small for n scores (the message has the smallest possible rate), or if an
        argument has the wrong shape, value or kind.

    See Also
    --------
    conformal_p_value : How often a good image has such a score.
    MultiVariateGaussian.threshold : The same for the largest distance of an image.

    Notes
    -----
    The limit is the :math:`\lceil (n+1)(1-\alpha) \rceil`-th smallest score. Whatever the distribution, a
    further good image exceeds it with probability at most :math:`\alpha`, if it and the n are exchangeable
    [1]_; with equal scores among them, more rarely. The probability is over the n images too.

    References
    ----------
    .. [1] V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World", Springer,
       2005, chapter 2.

    Examples
    --------
    >>> from mvgauss import conformal_threshold
    >>> conformal_threshold([3.0, 1.0, 4.0, 1.5], 0.2)
    4.0
    """
    return distributions.conformal_limit(_good_scores("scores", scores), checked_rate(false_positive_rate))


def conformal_p_value(scores: ArrayLike, good_scores: ArrayLike) -> Array:
    r"""Probability that a new good image has a score at least as large.

    Parameters
    ----------
    scores : array_like, any shape
        Scores of new images; larger scores are more anomalous.
    good_scores : array_like, shape (n,)
        Scores of n good images that were not used in fitting.

    Returns
    -------
    ndarray
        Of the shape of `scores`, between 1 / (n + 1) and 1.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, value or kind.

    See Also
    --------
    conformal_threshold : The limit that goes with a rate: exceeded where the p-value is at most that.
    MultiVariateGaussian.image_p_value : The same for the largest distance of an image.

    Notes
    -----
    :math:`(1 + \#\{\text{good} \ge s\}) / (n + 1)`: of a further good image it is at most
    :math:`\alpha` with probability at most :math:`\alpha`, if it and the n are exchangeable. An equal
    score counts as a larger one.

    Examples
    --------
    >>> from mvgauss import conformal_p_value
    >>> conformal_p_value([0.5, 4.0, 9.0], [3.0, 1.0, 4.0, 1.5])
    array([1. , 0.4, 0.2])
    """
    s = _arguments.array("scores", scores)
    _arguments.finite("scores", np.atleast_1d(s))
    sorted_good = np.sort(_good_scores("good_scores", good_scores))
    return np.asarray(distributions.rank_among(s.reshape(1, -1), sorted_good[None]).reshape(s.shape))


def _good_scores(name: str, value: ArrayLike) -> Array:
    """Return the scores of good images, one for each."""
    scores = _arguments.array(name, value)
    if scores.ndim != 1 or not scores.size:
        wanted = "one score for each of n > 0 images, shape (n,)"
        _arguments.raise_error(name, wanted, f"shape {scores.shape}")
    _arguments.finite(name, scores)
    return scores


def checked_rate(value: object) -> float:
    """Return a rate of false alarms."""
    result = _arguments.number("false_positive_rate", value, low=0, above=True)
    if result >= 1:
        wanted, hint = "a number between 0 and 1", "5 % is 0.05"
        _arguments.raise_error("false_positive_rate", wanted, f"{result:g}", hint=hint)
    return result
