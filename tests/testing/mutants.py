"""A right implementation of each function, and wrong ones that differ from it in one place.

Each mutant names the law that has to refuse it.
"""

import warnings

import numpy as np

# ---------------------------------------------------------------------------------------------------------
# covariances


class Cov:
    """A right covariance, in steps that a mutant may get wrong."""

    def __call__(
        self,
        observations,
        rowvar=False,
        bias=False,
        ddof=None,
        aweights=None,
        *,
        fweights=None,
        dtype=None,
    ):
        given = np.asarray(observations)
        x = self.widened(given, dtype)
        x = x.reshape(-1, 1) if x.ndim < 2 else x.swapaxes(-1, -2) if rowvar else x
        ddof = self.lost(bias, ddof)
        f, a = self.weights(fweights, x, whole=True), self.weights(aweights, x)
        w = f * a
        divisor = self.guarded(self.divisor(x, fweights, aweights, f, a, ddof))
        out = self.scatter(x, self.mean(x, w), w) / divisor[..., None, None]
        return self.finished(out, given)

    def widened(self, x, dtype):
        return x.astype(np.result_type(x, np.float64) if dtype is None else dtype)

    def lost(self, bias, ddof):
        return (0 if bias else 1) if ddof is None else ddof

    def weights(self, w, x, whole=False):
        if w is None:
            return np.ones(x.shape[:-1], x.real.dtype)
        w = self.refused(np.asarray(w), x.shape[-2], whole)
        return np.broadcast_to(w.astype(x.real.dtype), x.shape[:-1])

    def refused(self, w, n, whole):
        if w.shape[-1:] != (n,) or (w < 0).any() or not w.any(axis=-1).all():
            raise ValueError("weights")
        if whole and (w != np.rint(w)).any():
            raise ValueError("fweights")
        return w

    def mean(self, x, w):
        first = x[..., :1, :]
        return first + (w[..., None] * (x - first)).sum(axis=-2, keepdims=True) / self.total(w)

    def total(self, w):
        return w.sum(axis=-1)[..., None, None]

    def divisor(self, x, fweights, aweights, f, a, ddof):
        w = f * a
        if not w.size:
            return np.full(w.shape[:-1], -ddof, w.dtype)
        return w.sum(axis=-1) - ddof * (w * a).sum(axis=-1) / w.sum(axis=-1)

    def guarded(self, divisor):
        if (divisor <= 0).any():
            warnings.warn("no degrees of freedom", RuntimeWarning, stacklevel=3)
        return np.maximum(divisor, 0)

    def scatter(self, x, mean, w):
        z = self.centred(x, mean) * np.sqrt(w)[..., None]
        if z.dtype.kind == "c":
            a, b = z.real, z.imag
            cross = self.product(b, a)
            return self.product(a, a) + self.product(b, b) + 1j * (cross - cross.swapaxes(-1, -2))
        return self.product(z, z)

    def centred(self, x, mean):
        return x - mean

    def product(self, a, b):
        return np.einsum("...ni,...nj->...ij", a, b)

    def finished(self, out, given):
        return out[0, 0] if given.ndim < 3 and out.shape[-1] == 1 else out


class _Divisor(Cov):
    """A covariance whose divisor is that of a function of the weights that were given."""

    def wrong(self, n, f, a, ddof):
        raise NotImplementedError

    kinds = ""

    def divisor(self, x, fweights, aweights, f, a, ddof):
        kinds = "f" * (fweights is not None) + "a" * (aweights is not None)
        right = super().divisor(x, fweights, aweights, f, a, ddof)
        return self.wrong(x.shape[-2], f, a, ddof) + 0 * right if kinds in self.kinds and kinds else right


class DivisorN(Cov):
    def divisor(self, x, fweights, aweights, f, a, ddof):
        right = super().divisor(x, fweights, aweights, f, a, ddof)
        return right if fweights is not None or aweights is not None else 0 * right + x.shape[-2]


class DivisorOfFweightsIsN(_Divisor):
    kinds = ("f",)

    def wrong(self, n, f, a, ddof):
        return n - ddof


class DivisorOfFweightsIsOfAweights(_Divisor):
    kinds = ("f",)

    def wrong(self, n, f, a, ddof):
        return f.sum(axis=-1) - ddof * (f**2).sum(axis=-1) / f.sum(axis=-1)


class DivisorOfAweightsIsN(_Divisor):
    kinds = ("a",)

    def wrong(self, n, f, a, ddof):
        return n - ddof


class DivisorOfAweightsIsTheirSum(_Divisor):
    kinds = ("a",)

    def wrong(self, n, f, a, ddof):
        return a.sum(axis=-1) - ddof


class DivisorOfAweightsIsScaledByN(_Divisor):
    """As of weighted variances in some statistics packages: sum(a) (n - ddof) / n."""

    kinds = ("a",)

    def wrong(self, n, f, a, ddof):
        return a.sum(axis=-1) * (n - ddof) / n


class DivisorOfBothIsTheirSum(_Divisor):
    """As the page of torch.cov said up to 1.10."""

    kinds = ("fa",)

    def wrong(self, n, f, a, ddof):
        return (f * a).sum(axis=-1) - ddof


class DivisorOfBothSquaresTheProduct(_Divisor):
    kinds = ("fa",)

    def wrong(self, n, f, a, ddof):
        w = f * a
        return w.sum(axis=-1) - ddof * (w**2).sum(axis=-1) / w.sum(axis=-1)


class DivisorWithoutDdofIsN(_Divisor):
    kinds = ("f", "a", "fa")

    def wrong(self, n, f, a, ddof):
        right = (f * a).sum(axis=-1) - ddof * (f * a * a).sum(axis=-1) / (f * a).sum(axis=-1)
        return right if ddof else 0 * right + n


class BiasWinsOverDdof(Cov):
    def lost(self, bias, ddof):
        return 0 if bias else 1 if ddof is None else ddof


class BiasIsIgnored(Cov):
    def lost(self, bias, ddof):
        return 1 if ddof is None else ddof


class BiasIsTheDefault(Cov):
    def lost(self, bias, ddof):
        return 0 if ddof is None else ddof


class DdofIsAFlag(Cov):
    def lost(self, bias, ddof):
        return float(bool(super().lost(bias, ddof)))


class DdofIsCutToWhole(Cov):
    def lost(self, bias, ddof):
        return int(super().lost(bias, ddof))


class UnweightedMean(Cov):
    def mean(self, x, w):
        return x.mean(axis=-2, keepdims=True) if x.shape[-2] else super().mean(x, w)


class SquaredWeights(Cov):
    def scatter(self, x, mean, w):
        return super().scatter(x, mean, w * w)


class RootsOfWeights(Cov):
    def scatter(self, x, mean, w):
        return super().scatter(x, mean, np.sqrt(w))


class AweightsHaveAUnit(Cov):
    def weights(self, w, x, whole=False):
        # a floor under weights, against dividing by zero
        return np.maximum(super().weights(w, x, whole), 1e-6)


class GlobalMean(Cov):
    def mean(self, x, w):
        mean = super().mean(x, w)
        return np.broadcast_to(mean.mean(axis=tuple(range(mean.ndim - 2)), keepdims=True), mean.shape)


class WeightsOfTheFirstItem(Cov):
    def weights(self, w, x, whole=False):
        right = super().weights(w, x, whole)
        return np.broadcast_to(right[(0,) * (right.ndim - 1)], right.shape)


class OnePass(Cov):
    def scatter(self, x, mean, w):
        y = x * np.sqrt(w)[..., None]
        conj = mean.swapaxes(-1, -2) @ mean.conj()
        return np.einsum("...ni,...nj->...ij", y, y.conj()) - self.total(w) * conj


class Welford(Cov):
    """Running updates: right up to the offset of the data, but not to its last digits."""

    def scatter(self, x, mean, w):
        total, running, out = np.zeros(x.shape[:-2]), np.zeros_like(mean[..., 0, :]), 0
        for i in range(x.shape[-2]):
            total = total + w[..., i]
            share = np.divide(w[..., i], total, out=np.zeros_like(total), where=total > 0)
            before = x[..., i, :] - running
            running = running + share[..., None] * before
            after = (x[..., i, :] - running).conj()
            out = out + w[..., i, None, None] * before[..., :, None] * after[..., None, :]
        return out if x.shape[-2] else super().scatter(x, mean, w)


class SingleInside(Cov):
    def centred(self, x, mean):
        z = super().centred(x, mean)
        return z.astype(np.complex64 if z.dtype.kind == "c" else np.float32).astype(z.dtype)


class SingleMean(Cov):
    def mean(self, x, w):
        mean = super().mean(x, w)
        return mean.astype(np.complex64 if mean.dtype.kind == "c" else np.float32).astype(mean.dtype)


class NoConjugate(Cov):
    def scatter(self, x, mean, w):
        z = (x - mean) * np.sqrt(w)[..., None]
        return self.product(z, z)


class SwappedConjugate(Cov):
    def scatter(self, x, mean, w):
        return super().scatter(x, mean, w).conj()


class RealPartOnly(Cov):
    def scatter(self, x, mean, w):
        out = super().scatter(x, mean, w)
        return out.real.astype(out.dtype)


class Squeezed(Cov):
    def finished(self, out, given):
        return np.squeeze(out)


class LosesAStackOfOne(Cov):
    def finished(self, out, given):
        out = super().finished(out, given)
        return out[0] if out.ndim == 3 and len(out) == 1 else out


class MatrixOfOneVariable(Cov):
    def finished(self, out, given):
        return out


class WritesToItsInput(Cov):
    def widened(self, x, dtype):
        right = super().widened(x, dtype)
        if x.dtype == right.dtype and x.ndim > 1 and x.size and x.flags.writeable:
            x -= x.mean(axis=-2, keepdims=True)
        return right


class WritesToItsWeights(Cov):
    def refused(self, w, n, whole):
        right = super().refused(w, n, whole).copy()
        if w.dtype.kind == "f" and w.flags.writeable:
            w /= w.sum()
        return right


class NarrowStaysNarrow(Cov):
    def widened(self, x, dtype):
        return x.astype(np.result_type(x, np.float32) if dtype is None else dtype)


class NarrowIsWidenedTooLate(Cov):
    def widened(self, x, dtype):
        return x.astype(np.result_type(x, np.float32)) if dtype is None else x.astype(dtype)

    def finished(self, out, given):
        wide = np.result_type(out.dtype, np.float64) if given.dtype != np.float64 else out.dtype
        return super().finished(out.astype(wide), given)


class ComplexIsCutToReal(Cov):
    def widened(self, x, dtype):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().widened(x, dtype).astype(np.longdouble if x.dtype.itemsize == 16 else float)


class LongDoubleIsCut(Cov):
    def widened(self, x, dtype):
        x = super().widened(x, dtype)
        return x.astype(np.float64) if x.dtype.kind == "f" and dtype is None else x


class DtypeIsIgnored(Cov):
    def widened(self, x, dtype):
        return super().widened(x, None)


class LastDigitsDiffer(Cov):
    def product(self, a, b):
        out = super().product(a, b)
        out[..., 0, 1:] *= 1 + np.finfo(out.dtype).eps
        return out


class HiddenRidge(Cov):
    def finished(self, out, given):
        return super().finished(out + 1e-8 * np.eye(out.shape[-1]), given)


class RelativeRidge(Cov):
    def finished(self, out, given):
        trace = np.trace(out, axis1=-2, axis2=-1)[..., None, None]
        return super().finished(out + 1e-8 * trace * np.eye(out.shape[-1]), given)


class NanBecomesZero(Cov):
    def centred(self, x, mean):
        return np.nan_to_num(super().centred(x, mean), posinf=np.nan, neginf=np.nan)

    def mean(self, x, w):
        return np.nan_to_num(super().mean(x, w))


class NanInTheResultBecomesZero(Cov):
    def finished(self, out, given):
        return np.nan_to_num(super().finished(out, given), posinf=np.inf, neginf=-np.inf)


class NanSpreadsToAll(Cov):
    def finished(self, out, given):
        out = np.where(np.isnan(out).any(), np.nan, out)
        return super().finished(out, given)


class NoGuard(Cov):
    def guarded(self, divisor):
        return divisor


class GuardAtOne(Cov):
    def guarded(self, divisor):
        super().guarded(divisor)
        return np.maximum(divisor, 1)


class SilentGuard(Cov):
    def guarded(self, divisor):
        return np.maximum(divisor, 0)


class WarnsAlways(Cov):
    def guarded(self, divisor):
        warnings.warn("covariances are only estimates", RuntimeWarning, stacklevel=3)
        return super().guarded(divisor)


class OneRowIsOneVariable(Cov):
    """As NumPy before 2.2 read a single row."""

    def __call__(self, observations, rowvar=False, *args, **kwargs):
        one = np.ndim(observations) == 2 and np.shape(observations)[0] == 1
        return super().__call__(observations, rowvar or one, *args, **kwargs)


class AlwaysInRows(Cov):
    def __call__(self, observations, rowvar=False, *args, **kwargs):
        return super().__call__(observations, False, *args, **kwargs)


class NegativeWeightsPass(Cov):
    def refused(self, w, n, whole):
        return w if (w < 0).any() else super().refused(w, n, whole)


class FractionalFweightsAreCut(Cov):
    def refused(self, w, n, whole):
        return super().refused(np.floor(w) if whole else w, n, whole)


class AnyNumberOfWeights(Cov):
    def refused(self, w, n, whole):
        return super().refused(np.resize(w, n) if w.ndim == 1 else w, n, whole)


class NoWeightIsNan(Cov):
    def refused(self, w, n, whole):
        return w if not w.any() else super().refused(w, n, whole)


class FloorUnderFweights(Cov):
    def weights(self, w, x, whole=False):
        right = super().weights(w, x, whole)
        return np.maximum(right, 1) if whole else right


class WritesToItsFweights(Cov):
    def refused(self, w, n, whole):
        right = super().refused(w, n, whole).copy()
        if whole and w.flags.writeable:
            w += 1
        return right


class FweightsOfTheStack(Cov):
    """Takes fweights (N,) for one item only, and repeats them once for each further item."""

    def weights(self, w, x, whole=False):
        right = super().weights(w, x, whole)
        return right * (1 + np.arange(len(x)))[:, None] if whole and x.ndim == 3 else right


class NeedsArrays(Cov):
    def __call__(self, observations, *args, **kwargs):
        observations.shape  # noqa: B018
        return super().__call__(observations, *args, **kwargs)


class OneBuffer(Cov):
    def __init__(self):
        self.buffer = np.empty((2, 2))

    def finished(self, out, given):
        if out.shape != (2, 2) or out.dtype != float:
            return super().finished(out, given)
        self.buffer[...] = out
        return self.buffer


COV = {
    DivisorN: "the_divisor_is_n_minus_ddof",
    DivisorOfFweightsIsN: "with_fweights_the_divisor_is_their_sum_minus_ddof",
    DivisorOfFweightsIsOfAweights: "with_fweights_the_divisor_is_their_sum_minus_ddof",
    DivisorOfAweightsIsN: "with_aweights_the_divisor_uses_their_squares",
    DivisorOfAweightsIsTheirSum: "with_aweights_the_divisor_uses_their_squares",
    DivisorOfAweightsIsScaledByN: "with_aweights_the_divisor_uses_their_squares",
    DivisorOfBothIsTheirSum: "with_both_weights_the_divisor_uses_f_a_squared",
    DivisorOfBothSquaresTheProduct: "with_both_weights_the_divisor_uses_f_a_squared",
    DivisorWithoutDdofIsN: "with_ddof_0_the_divisor_is_the_sum_of_aweights",
    BiasWinsOverDdof: "ddof_overrides_bias",
    BiasIsIgnored: "bias_divides_by_n",
    BiasIsTheDefault: "samples_are_in_rows",
    DdofIsAFlag: "the_divisor_is_n_minus_ddof",
    DdofIsCutToWhole: "a_fractional_ddof_is_used_or_refused",
    UnweightedMean: "the_mean_is_weighted",
    SquaredWeights: "weights_multiply_squared_deviations",
    RootsOfWeights: "weights_multiply_squared_deviations",
    AweightsHaveAUnit: "scaling_aweights_changes_nothing",
    GlobalMean: "each_item_of_a_stack_has_its_own_covariance",
    WeightsOfTheFirstItem: "aweights_may_differ_between_items",
    OnePass: "data_far_from_zero_are_not_squared",
    Welford: "the_offset_of_the_data_costs_no_digits",
    SingleInside: "samples_are_in_rows",
    SingleMean: "the_offset_of_the_data_costs_no_digits",
    NoConjugate: "complex_data_conjugate_the_second_factor",
    SwappedConjugate: "complex_data_conjugate_the_second_factor",
    RealPartOnly: "complex_data_conjugate_the_second_factor",
    Squeezed: "one_feature_in_a_stack_keeps_its_axes",
    LosesAStackOfOne: "a_stack_of_one_keeps_its_axis",
    MatrixOfOneVariable: "one_variable_gives_a_scalar",
    WritesToItsInput: "no_input_is_written_to",
    WritesToItsWeights: "no_aweights_are_written_to",
    NarrowStaysNarrow: "the_result_is_at_least_double",
    NarrowIsWidenedTooLate: "narrow_data_are_computed_in_double",
    ComplexIsCutToReal: "complex_results_are_at_least_double",
    LongDoubleIsCut: "long_double_is_kept",
    DtypeIsIgnored: "the_dtype_that_is_asked_for_is_that_of_the_result",
    LastDigitsDiffer: "the_result_is_symmetric_to_the_last_bit",
    HiddenRidge: "a_constant_feature_has_no_variance",
    RelativeRidge: "samples_are_in_rows",
    NanBecomesZero: "nan_spreads_to_its_row_and_column",
    NanInTheResultBecomesZero: "nan_spreads_to_its_row_and_column",
    NanSpreadsToAll: "nan_spreads_to_its_row_and_column",
    NoGuard: "no_degrees_of_freedom_give_inf_or_nan",
    GuardAtOne: "no_degrees_of_freedom_give_inf_or_nan",
    SilentGuard: "no_degrees_of_freedom_warn",
    WarnsAlways: "enough_degrees_of_freedom_do_not_warn",
    OneRowIsOneVariable: "one_row_is_one_sample",
    AlwaysInRows: "rowvar_puts_samples_in_columns",
    NegativeWeightsPass: "negative_aweights_are_refused",
    FractionalFweightsAreCut: "fractional_fweights_are_refused",
    AnyNumberOfWeights: "aweights_of_another_length_are_refused",
    NoWeightIsNan: "aweights_that_are_all_zero_are_refused",
    FloorUnderFweights: "a_zero_fweight_drops_the_sample",
    WritesToItsFweights: "no_fweights_are_written_to",
    FweightsOfTheStack: "fweights_apply_to_every_item_of_a_stack",
    NeedsArrays: "nested_lists_are_taken_as_arrays",
    OneBuffer: "a_later_call_does_not_change_an_earlier_result",
}

# ---------------------------------------------------------------------------------------------------------
# pseudo-inverses


class Pinv:
    """A right pseudo-inverse."""

    def __call__(self, covariance, rtol=None, *, return_rank=False):
        given = np.asarray(covariance)
        self.refuse(given)
        s = self.read(given)
        values, vectors = np.linalg.eigh(s)
        cut = (s.shape[-1] * self.eps(given) if rtol is None else rtol) * self.largest(values)
        keep = self.kept(values, cut)
        if (values < -1e-3 * self.largest(values)).any():
            raise ValueError("negative")
        root = np.where(keep, 1 / np.sqrt(np.where(keep, np.abs(values), 1)), 0)
        w = root[..., :, None] * vectors.swapaxes(-1, -2)
        inverse = self.product(w, np.where(values < 0, -1, 1)).astype(self.stored(given))
        return (inverse, keep.sum(axis=-1)) if return_rank else inverse

    def refuse(self, s):
        if s.shape[-1] != s.shape[-2] or not np.isfinite(s).all():
            raise ValueError("covariance")
        if (s != s.swapaxes(-1, -2)).any():
            raise ValueError("not symmetric")

    def read(self, s):
        return s.astype(np.float64)

    def eps(self, s):
        return float(np.finfo(s.dtype if s.dtype.kind == "f" else float).eps)

    def largest(self, values):
        return np.abs(values).max(axis=-1, keepdims=True)

    def kept(self, values, cut):
        return values > cut

    def product(self, w, sign):
        return np.einsum("...ki,...kj->...ij", w, w)

    def stored(self, s):
        return np.float32 if s.dtype == np.float32 else np.float64


class PinvInverts(Pinv):
    def kept(self, values, cut):
        return np.abs(values) > 0


class PinvOfModuli(Pinv):
    """As numpy.linalg.pinv(hermitian=True) takes them."""

    def kept(self, values, cut):
        return np.abs(values) > cut

    def product(self, w, sign):
        return np.einsum("...ki,...k,...kj->...ij", w, sign, w)


class PinvWithRidge(Pinv):
    def read(self, s):
        return super().read(s) + 1e-10 * np.eye(s.shape[-1])


class PinvAbsoluteCut(Pinv):
    def largest(self, values):
        return np.ones_like(super().largest(values))


class PinvCutOfTheStack(Pinv):
    def largest(self, values):
        return np.full_like(super().largest(values), np.abs(values).max())


class PinvFixedCut(Pinv):
    """1e-15 in every precision."""

    def eps(self, s):
        return 1e-15 / s.shape[-1]


class PinvLooseCut(Pinv):
    def eps(self, s):
        return 1e6 * super().eps(s)


class PinvKeepsTheEdge(Pinv):
    def kept(self, values, cut):
        return (values >= cut) & (values > 0)


class PinvInSingle(Pinv):
    def read(self, s):
        return s.astype(np.float32)


class PinvAsymmetric(Pinv):
    def product(self, w, sign):
        out = super().product(w, sign)
        out[..., 0, 1:] *= 1 + np.finfo(float).eps
        return out


class PinvOfOneTriangle(Pinv):
    def refuse(self, s):
        super().refuse(np.tril(s) + np.tril(s, -1).swapaxes(-1, -2))


class PinvOfAnything(Pinv):
    """Takes what is not square or finite, and answers NaN."""

    def __call__(self, covariance, rtol=None, *, return_rank=False):
        try:
            return super().__call__(covariance, rtol, return_rank=return_rank)
        except ValueError:
            return np.full(np.shape(covariance), np.nan)


class PinvNegative(Pinv):
    def product(self, w, sign):
        return -super().product(w, sign)


class PinvWrites(Pinv):
    def read(self, s):
        out = super().read(s).copy()
        if s.flags.writeable and s.dtype.kind == "f":
            s += 1
        return out


class PinvWide(Pinv):
    def stored(self, s):
        return np.float64


class PinvRankOfShape(Pinv):
    def __call__(self, covariance, rtol=None, *, return_rank=False):
        inverse = super().__call__(covariance, rtol)
        return (inverse, np.full(inverse.shape[:-2], inverse.shape[-1])) if return_rank else inverse


class PinvSqueezes(Pinv):
    def __call__(self, *args, **kwargs):
        out = super().__call__(*args, **kwargs)
        return out[0] if isinstance(out, np.ndarray) and out.ndim == 3 and len(out) == 1 else out


PINV = {
    PinvInverts: "a_singular_matrix_has_its_pseudo_inverse",
    PinvOfModuli: "a_negative_rounding_error_is_dropped",
    PinvWithRidge: "a_regular_matrix_has_its_inverse",
    PinvAbsoluteCut: "the_unit_of_the_covariance_does_not_matter",
    PinvCutOfTheStack: "each_matrix_of_a_stack_is_inverted_alone",
    PinvFixedCut: "the_dtype_is_that_of_the_data",
    PinvLooseCut: "the_default_cut_off_is_c_eps",
    PinvKeepsTheEdge: "an_eigenvalue_at_the_cut_off_is_dropped",
    PinvInSingle: "a_regular_matrix_has_its_inverse",
    PinvAsymmetric: "the_result_is_symmetric_to_the_last_bit",
    PinvOfOneTriangle: "a_matrix_that_is_not_symmetric_is_refused",
    PinvOfAnything: "a_matrix_that_is_not_finite_is_refused",
    PinvNegative: "no_eigenvalue_of_the_inverse_is_negative",
    PinvWrites: "no_input_is_written_to",
    PinvWide: "the_dtype_is_that_of_the_data",
    PinvRankOfShape: "the_rank_counts_the_eigenvalues_that_are_kept",
    PinvSqueezes: "a_stack_of_one_keeps_its_axis",
}

# ---------------------------------------------------------------------------------------------------------
# distances


class Mahalanobis:
    """A right distance."""

    def __call__(self, x, mean, inv_covariance, *, squared=False):
        x, mean, p = np.asarray(x), np.asarray(mean), np.asarray(inv_covariance)
        if not x.shape[-1] == mean.shape[-1] == p.shape[-1]:
            raise ValueError("shapes")
        dtype = np.result_type(x, mean, p)
        z = np.atleast_2d(x).astype(float) - mean.astype(float)[..., None, :]
        d = self.squares(z, self.matrix(p).astype(float))
        d = self.rooted(self.clipped(d), squared).astype(dtype)
        return d if x.ndim > 1 else d[..., 0]

    def matrix(self, p):
        return p

    def squares(self, z, p):
        return np.einsum("...ni,...ij,...nj->...n", z, p, z)

    def clipped(self, d):
        return np.maximum(d, 0)

    def rooted(self, d, squared):
        return d if squared else np.sqrt(d)


class AlwaysSquared(Mahalanobis):
    def rooted(self, d, squared):
        return d


class NeverSquared(Mahalanobis):
    def rooted(self, d, squared):
        return np.sqrt(d)


class NotClipped(Mahalanobis):
    def clipped(self, d):
        return d


class InvertsAgain(Mahalanobis):
    def matrix(self, p):
        return np.linalg.pinv(p)


class DiagonalOnly(Mahalanobis):
    def matrix(self, p):
        return p * np.eye(p.shape[-1])


class Expanded(Mahalanobis):
    """x P x - 2 x P m + m P m, which loses what x and m have in common."""

    def __call__(self, x, mean, inv_covariance, *, squared=False):
        x, m, p = np.atleast_2d(x), np.asarray(mean), np.asarray(inv_covariance)
        super().__call__(x, mean, inv_covariance)
        d = self.squares(x, p) - 2 * np.einsum("...ni,...ij,...j->...n", x, p, m)
        d = d + np.einsum("...i,...ij,...j->...", m, p, m)[..., None]
        return self.rooted(self.clipped(d), squared)


class Stretches(Mahalanobis):
    def __call__(self, x, mean, inv_covariance, *, squared=False):
        c = np.shape(inv_covariance)[-1]
        x = np.broadcast_to(x, (*np.shape(x)[:-1], c)) if np.shape(x)[-1] == 1 else x
        return super().__call__(x, mean, inv_covariance, squared=squared)


class FirstGaussian(Mahalanobis):
    def matrix(self, p):
        return np.broadcast_to(p[(0,) * (p.ndim - 2)], p.shape)


class NeverZero(Mahalanobis):
    """A floor under the root, against its infinite derivative."""

    def clipped(self, d):
        return np.maximum(d, 1e-24)


class DistanceInDouble(Mahalanobis):
    def __call__(self, x, mean, inv_covariance, *, squared=False):
        return super().__call__(x, np.asarray(mean, float), inv_covariance, squared=squared)


class DistanceWrites(Mahalanobis):
    def __call__(self, x, mean, inv_covariance, *, squared=False):
        out = super().__call__(x, mean, inv_covariance, squared=squared)
        if x.flags.writeable:
            x -= mean if x.ndim < 3 else mean[..., None, :]
        return out


DISTANCE = {
    NeverZero: "the_mean_has_distance_zero",
    DistanceInDouble: "the_dtype_is_that_of_the_data",
    DistanceWrites: "no_input_is_written_to",
    AlwaysSquared: "distances_are_roots_by_default",
    NeverSquared: "squared_gives_squared_distances",
    NotClipped: "a_distance_is_never_negative_or_nan",
    InvertsAgain: "the_third_argument_is_the_inverse_covariance",
    DiagonalOnly: "distances_are_roots_by_default",
    Expanded: "an_offset_costs_no_digits",
    Stretches: "shapes_that_do_not_fit_are_refused",
    FirstGaussian: "each_item_of_a_stack_has_its_own_gaussian",
}

# ---------------------------------------------------------------------------------------------------------
# the estimator


class Gaussian:
    """A right estimator."""

    ridge = 0.01
    divisor = 1

    def fit(self, embedding, sample_weight=None):
        given = np.asarray(embedding)
        self.refuse(given)
        x = self.samples(self.widened(given))
        w = self.weights(np.ones(len(given)) if sample_weight is None else np.asarray(sample_weight, float))
        w = w if len(w) == x.shape[1] else np.ones(x.shape[1])
        mean = self.centre(x, w)
        z = x - mean
        s = np.einsum("n,pni,pnj->pij", w, z, z) / self.degrees(w)
        inverse = self.inverse(s + self.ridge * np.eye(s.shape[-1]))
        dtype = given.dtype if given.dtype == np.float32 else np.float64
        self.mean, self.inv_covariance = self.shaped(mean).astype(dtype), inverse.astype(dtype)
        return self.mean, self.inv_covariance

    def refuse(self, x):
        if len(x) < 2 or not np.isfinite(x).all():
            raise ValueError("embedding")

    def widened(self, x):
        return x.astype(float)

    def samples(self, x):
        return np.moveaxis(x.reshape(*x.shape[:2], -1), -1, 0)

    def weights(self, w):
        if w.sum() <= self.divisor:
            raise ValueError("sample_weight")
        return w

    def degrees(self, w):
        return w.sum() - self.divisor

    def centre(self, x, w):
        return np.average(x, axis=1, weights=w, keepdims=True)

    def inverse(self, s):
        w = np.linalg.inv(np.linalg.cholesky(s))
        return np.einsum("pki,pkj->pij", w, w)

    def shaped(self, mean):
        return mean[:, 0].T


class FitBiased(Gaussian):
    divisor = 0


class FitWithoutRidge(Gaussian):
    ridge = 0.0

    def inverse(self, s):
        return np.linalg.pinv(s, hermitian=True)


class FitWithTheRidgeOfAnomalib2(Gaussian):
    ridge = 0.01001


class FitWithRelativeRidge(Gaussian):
    def inverse(self, s):
        c = s.shape[-1]
        s = s - 0.01 * np.eye(c)
        trace = np.trace(s, axis1=1, axis2=2)[:, None, None] / c
        return super().inverse(s + (0.01 * trace + 1e-12) * np.eye(c))


class FitByColumns(Gaussian):
    def samples(self, x):
        return super().samples(x.swapaxes(2, 3))


class FitPatchesFirst(Gaussian):
    def shaped(self, mean):
        return mean[:, 0]


class FitGlobalMean(Gaussian):
    def centre(self, x, w):
        mean = super().centre(x, w)
        return np.broadcast_to(mean.mean(axis=0, keepdims=True), mean.shape)


class FitInSingle(Gaussian):
    def widened(self, x):
        return x.astype(np.float32)

    def weights(self, w):
        return super().weights(w).astype(np.float32)


class FitNarrowStaysNarrow(Gaussian):
    def widened(self, x):
        return x

    def inverse(self, s):
        return super().inverse(s.astype(self.kind))

    def samples(self, x):
        self.kind = x.dtype
        return super().samples(x)


class FitAsymmetric(Gaussian):
    def inverse(self, s):
        out = super().inverse(s)
        out[..., 0, 1:] *= 1 + np.finfo(float).eps
        return out


class FitNegative(Gaussian):
    def inverse(self, s):
        return super().inverse(s) - 1000 * np.eye(s.shape[-1])


class FitOne(Gaussian):
    def weights(self, w):
        return w

    def refuse(self, x):
        if not np.isfinite(x).all():
            raise ValueError("embedding")

    def inverse(self, s):
        return np.nan_to_num(s)


class FitNan(Gaussian):
    def refuse(self, x):
        if len(x) < 2:
            raise ValueError("embedding")

    def inverse(self, s):
        return super().inverse(np.nan_to_num(s)) if np.isfinite(s).all() else s


class FitWrites(Gaussian):
    def widened(self, x):
        out = super().widened(x).copy()
        if x.flags.writeable:
            x -= x.mean(axis=0)
        return out


class FitGoesOn(Gaussian):
    seen = None

    def widened(self, x):
        x = super().widened(x)
        self.seen = x if self.seen is None else np.concatenate([self.seen, x])
        return self.seen


class FitTakesWeightsForImportances(Gaussian):
    """As aweights: a common factor changes nothing."""

    def degrees(self, w):
        return w.sum() - (w**2).sum() / w.sum()


class FitCutsWeights(Gaussian):
    def weights(self, w):
        return np.floor(super().weights(w)) + (np.floor(w).sum() < 2)


class FitFloorsWeights(Gaussian):
    def weights(self, w):
        return np.maximum(super().weights(w), 0.25)


class FitNormalizesWeights(Gaussian):
    """Scales them to a mean of one, so that no sum is too small."""

    def weights(self, w):
        return w * (len(w) / w.sum())


class FitGivesItself(Gaussian):
    def fit(self, embedding, sample_weight=None):
        super().fit(embedding, sample_weight)
        return [self.inv_covariance, self.mean]


class FitWide(Gaussian):
    def fit(self, embedding, sample_weight=None):
        super().fit(embedding, sample_weight)
        self.mean = self.mean.astype(float)
        return self.mean, self.inv_covariance


class FitOnePass(Gaussian):
    def fit(self, embedding, sample_weight=None):
        super().fit(embedding)
        x = self.samples(np.asarray(embedding, float))
        n, mean = x.shape[1], self.centre(x, None)
        s = (np.einsum("pni,pnj->pij", x, x) - n * mean.swapaxes(1, 2) @ mean) / (n - 1)
        self.inv_covariance = np.linalg.inv(s + 0.01 * np.eye(s.shape[-1])).astype(self.mean.dtype)
        return self.mean, self.inv_covariance


GAUSSIAN = {
    FitBiased: "the_inverse_is_that_of_the_covariance_plus_ridge",
    FitWithoutRidge: "fewer_samples_than_features_are_fine",
    FitWithTheRidgeOfAnomalib2: "a_constant_feature_has_the_ridge_as_variance",
    FitWithRelativeRidge: "a_constant_feature_has_the_ridge_as_variance",
    FitByColumns: "patches_are_numbered_row_by_row",
    FitPatchesFirst: "means_are_features_by_patches",
    FitGlobalMean: "patches_are_numbered_row_by_row",
    FitInSingle: "the_inverse_is_that_of_the_covariance_plus_ridge",
    FitNarrowStaysNarrow: "single_precision_is_computed_in_double",
    FitAsymmetric: "the_inverse_is_symmetric_to_the_last_bit",
    FitNegative: "the_inverse_is_positive_definite",
    FitOne: "a_single_sample_is_refused",
    FitNan: "an_embedding_that_is_not_finite_is_refused",
    FitWrites: "no_input_is_written_to",
    FitGoesOn: "fitting_again_replaces_the_first_fit",
    FitTakesWeightsForImportances: "a_sample_weight_of_two_is_the_sample_twice",
    FitCutsWeights: "sample_weights_may_be_fractional",
    FitFloorsWeights: "a_sample_weight_of_zero_drops_the_sample",
    FitNormalizesWeights: "sample_weights_that_sum_to_one_are_refused",
    FitGivesItself: "what_fit_returns_unpacks_into_the_parameters",
    FitWide: "results_have_the_dtype_of_the_embedding",
    FitOnePass: "an_offset_costs_no_digits",
}
