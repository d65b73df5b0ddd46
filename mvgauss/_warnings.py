"""Warnings; each can be filtered, or turned into an error, by its class."""

import warnings

from mvgauss import _arguments


class DefaultThresholdWarning(UserWarning):
    """A decision by the default limit, for a model without an exact distribution."""


class FewSamplesWarning(UserWarning):
    """Covariances of no more samples than features, without shrinkage."""


class PictureWarning(UserWarning):
    """An array that looks like pictures, where embeddings are expected."""


def warn_if_few(n: int, c: int, shrinkage: float | str | None) -> None:
    """Warn of covariances of n samples of no fewer features, without shrinkage."""
    if n <= c and not shrinkage:
        warnings.warn(
            f"{n} samples of {c} features, without shrinkage: new good images lie much farther away than the "
            "fitted ones (leave_one_out(embedding) shows how far); shrinkage='oas' or 'ledoit_wolf' helps, "
            "and so do fewer features",
            FewSamplesWarning,
            stacklevel=_arguments.outside(),
        )
