"""Wrong implementations: lines of `reference`, what a mutant has instead, and the laws it has to break."""

import textwrap
from functools import cache
from pathlib import Path

import reference

#: In place of the scatter of deviations: the square of the mean from the sum of squares; and running updates.
ONE_PASS = """
x, mean = x + first, mean + first
squares = np.einsum("...ni,...nj->...ij", w[..., None] * x, x.conj())
scatter = squares - total[..., None, None] * (mean.swapaxes(-1, -2) @ mean.conj())
""".strip()
WELFORD = """
x, m, scatter, seen = x + first, first[..., 0, :] * 0, 0, 0 * total
for i in range(x.shape[-2]):
    seen = seen + w[..., i]
    before = x[..., i, :] - m
    m = m + (w[..., i] / np.where(seen > 0, seen, 1))[..., None] * before
    after = (x[..., i, :] - m).conj()
    scatter = scatter + w[..., i, None, None] * before[..., :, None] * after[..., None, :]
""".strip()

# fmt: off
COV = {
    "divisor = total - ddof * (w * a).sum(axis=-1) / total": {
        "divisor = 0 * total + len(x)": "the_divisor_is_n_minus_ddof",
        "divisor = 0 * total + len(x) - ddof":
            "with_fweights_the_divisor_is_their_sum_minus_ddof with_aweights_the_divisor_uses_their_squares",
        "divisor = total - ddof * (w * w).sum(axis=-1) / total":
            "fweights_repeat_samples with_both_weights_the_divisor_uses_f_a_squared",
        "b = w if (a != 1).any() and (f != 1).any() else a\ndivisor = total - ddof * (w * b).sum(-1) / total":
            "with_both_weights_the_divisor_uses_f_a_squared",
        "divisor = total - ddof":
            "equal_aweights_change_nothing with_both_weights_the_divisor_uses_f_a_squared",
        "divisor = total * (len(x) - ddof) / len(x)":
            "with_aweights_the_divisor_uses_their_squares aweights_follow_their_samples",
        "divisor = total - ddof * (w * a).sum(axis=-1) / total if ddof else 0 * total + len(x)":
            "with_ddof_0_the_divisor_is_the_sum_of_aweights"},
    "ddof = (0 if bias else 1) if ddof is None else ddof": {
        "ddof = 0 if bias else 1 if ddof is None else ddof": "ddof_overrides_bias",
        "ddof = 1 if ddof is None else ddof": "bias_divides_by_n",
        "ddof = 0 if ddof is None else ddof": "samples_are_in_rows",
        "ddof = float(bool((0 if bias else 1) if ddof is None else ddof))": "the_divisor_is_n_minus_ddof",
        "ddof = int((0 if bias else 1) if ddof is None else ddof)":
            "a_fractional_ddof_is_used_or_refused a_fractional_ddof_is_used"},
    "x = x - first": {
        "x = x + 0": "data_sets_of_nist_lose_no_digits",
        "z = x - x.mean(axis=-2, keepdims=True).astype(np.float32)\nreturn product(z) / (len(x) - 1.0)":
            "the_offset_of_the_data_costs_no_digits data_sets_of_nist_lose_no_digits_but_those_of_the_mean"},
    "mean = (w[..., None] * x).sum(axis=-2, keepdims=True) / total[..., None, None]": {
        "mean = x.mean(axis=-2, keepdims=True)": "the_mean_is_weighted"},
    "z = x - mean": {
        "z = x - mean.mean(axis=tuple(range(x.ndim - 2)), keepdims=True)":
            "each_item_of_a_stack_has_its_own_covariance aweights_apply_to_every_item_of_a_stack",
        "z = (x - mean).astype(np.complex64 if x.dtype.kind == 'c' else np.float32)": "samples_are_in_rows",
        "z = np.nan_to_num(x - mean)": "nan_spreads_to_its_row_and_column"},
    "scatter = product(z * np.sqrt(w)[..., None])": {
        "scatter = product(z * w[..., None])": "weights_multiply_squared_deviations",
        "scatter = product(z * w[..., None] ** 0.25)": "weights_multiply_squared_deviations",
        ONE_PASS: "data_far_from_zero_are_not_squared data_sets_of_nist_are_not_squared",
        WELFORD: "the_offset_of_the_data_costs_no_digits the_offset_of_weighted_data_costs_no_digits"},
    "return np.broadcast_to(w, x.shape[:-1])": {
        "return np.broadcast_to(np.maximum(w, 1e-6), x.shape[:-1])": "scaling_aweights_changes_nothing",
        "return np.broadcast_to(w[(0,) * (w.ndim - 1)], x.shape[:-1])":
            "aweights_may_differ_between_items fweights_may_differ_between_items",
        "return np.broadcast_to(w, x.shape[:-1]) * (1 + whole * np.arange(len(x))[:, None] * (x.ndim == 3))":
            "fweights_apply_to_every_item_of_a_stack"},
    "return product(z.real) + product(z.imag) + 1j * (cross - cross.swapaxes(-1, -2))": {
        "return np.einsum('...ni,...nj->...ij', z, z)":
            "complex_data_may_have_aweights complex_results_are_hermitian_to_the_last_bit",
        "return product(z.real) + product(z.imag) - 1j * (cross - cross.swapaxes(-1, -2))":
            "complex_data_conjugate_the_second_factor",
        "return product(z.real) + product(z.imag) + 0j": "complex_data_conjugate_the_second_factor"},
    'return np.einsum("...ni,...nj->...ij", z, z)': {
        "out = np.einsum('...ni,...nj->...ij', z, z)\nout[..., 0, 1:] *= 1 + 2.0**-52\nreturn out":
            "the_result_is_symmetric_to_the_last_bit weighted_results_are_symmetric_to_the_last_bit"},
    "return out[0, 0] if given.ndim < 3 and out.shape[-1] == 1 else out": {
        "return out[0, 0] if given.ndim < 3 and out.size < 2 else out": "no_features_give_an_empty_matrix",
        "return np.squeeze(out)": "one_feature_in_a_stack_keeps_its_axes",
        "return out[0] if out.ndim == 3 and len(out) == 1 else out": "a_stack_of_one_keeps_its_axis",
        "return out": "one_variable_gives_a_scalar",
        "shared = globals().setdefault('shared', out)\nshared[...] = out\nreturn shared":
            "a_later_call_does_not_change_an_earlier_result"},
    "given = np.asarray(observations)": {
        "given = np.asarray(observations)\ngiven -= 1":
            "no_input_is_written_to read_only_inputs_are_accepted",
        "given = np.ravel(observations, 'K').reshape(np.shape(observations))": "memory_layouts_do_not_matter",
        "given = observations": "nested_lists_are_taken_as_arrays"},
    "w = np.asarray(given)": {
        "w = np.asarray(given)\nw *= 2": "no_aweights_are_written_to no_fweights_are_written_to"},
    "x = given.astype(np.result_type(given, np.float64) if dtype is None else dtype)": {
        "x = given.astype(np.result_type(given, np.float32) if dtype is None else dtype)":
            "the_result_is_at_least_double",
        "x = (given - given.mean(axis=-2, keepdims=True, dtype=given.dtype)).astype(float)":
            "narrow_data_are_computed_in_double",
        "x = given.real.astype(np.result_type(given.real, np.float64) if dtype is None else dtype)":
            "complex_results_are_at_least_double",
        "x = given.astype(complex if given.dtype.kind == 'c' else float)": "long_double_is_kept",
        "x = given.astype(np.result_type(given, np.float64))":
            "the_dtype_that_is_asked_for_is_that_of_the_result"},
    "out = scatter / divisor[..., None, None]": {
        "out = scatter / divisor[..., None, None] + 1e-8 * np.eye(x.shape[-1])":
            "a_constant_feature_has_no_variance scaling_the_data_scales_the_covariance",
        "out = scatter / divisor[..., None, None] * (1 + 1e-8 * np.eye(x.shape[-1]))":
            "samples_are_in_rows longleys_data_have_their_covariance more_features_than_samples_are_fine "
            "the_order_of_samples_does_not_matter",
        "out = np.nan_to_num(scatter / divisor[..., None, None])":
            "nan_spreads_to_its_row_and_column no_samples_give_nan",
        "out = scatter / divisor[..., None, None] + 0 * scatter.sum()":
            "nan_spreads_to_its_row_and_column nan_stays_in_its_item_of_a_stack"},
    "divisor = np.maximum(divisor, 0)": {
        "divisor = divisor + 0": "no_degrees_of_freedom_give_inf_or_nan",
        "divisor = np.maximum(divisor, 1)":
            "no_degrees_of_freedom_give_inf_or_nan all_weight_on_one_sample_gives_nan"},
    "if (divisor <= 0).any():": {
        "if False:": "no_degrees_of_freedom_warn",
        "if True:": "enough_degrees_of_freedom_do_not_warn"},
    "x = x.reshape(-1, 1) if x.ndim < 2 else x.swapaxes(-1, -2) if rowvar else x": {
        "x = x.reshape(-1, 1) if x.ndim < 2 else x.swapaxes(-1, -2) if rowvar or len(x) == 1 else x":
            "one_row_is_one_sample",
        "x = np.atleast_2d(x).swapaxes(-1, -2) if rowvar else np.atleast_2d(x)": "a_vector_is_one_variable",
        "x = x.reshape(-1, 1) if x.ndim < 2 else x":
            "rowvar_puts_samples_in_columns samples_of_a_stack_may_be_in_columns"},
    "if (w < 0).any():": {
        "if (w < -9).any():": "negative_aweights_are_refused negative_fweights_are_refused"},
    "if whole and (w != np.rint(w)).any():": {
        "w = np.floor(w) if whole else w\nif False:": "fractional_fweights_are_refused"},
    "if w.shape[-1:] != x.shape[-2:-1]:": {
        "w = np.resize(w, x.shape[-2]) if w.ndim == 1 else w\nif False:":
            "aweights_of_another_length_are_refused fweights_of_another_length_are_refused"},
    "if not w.any(axis=-1).all():": {
        "if w.size == 0:": "aweights_that_are_all_zero_are_refused fweights_that_are_all_zero_are_refused"},
    "w = w.astype(x.real.dtype)": {
        "w = np.maximum(w, 0.5).astype(x.real.dtype)":
            "a_zero_fweight_drops_the_sample a_zero_aweight_drops_the_sample"},
}
PINV = {
    "keep = values > (s.shape[-1] * eps if rtol is None else rtol) * largest": {
        "keep = np.abs(values) > 0": "a_singular_matrix_has_its_pseudo_inverse",
        "keep = np.abs(values) > (s.shape[-1] * eps if rtol is None else rtol) * largest":
            "a_negative_rounding_error_is_dropped",
        "keep = values >= np.maximum((s.shape[-1] * eps if rtol is None else rtol) * largest, 1e-300)":
            "an_eigenvalue_at_the_cut_off_is_dropped",
        "keep = values > s.shape[-1] * eps * largest": "rtol_is_relative_to_the_largest_eigenvalue"},
    "s = given.astype(np.float64)": {
        "s = given.astype(np.float64) + 1e-10 * np.eye(len(given.T))":
            "a_regular_matrix_has_its_inverse no_ridge_is_added the_pseudo_inverse_of_zeros_is_zeros",
        "s = given.astype(np.float32)":
            "a_regular_matrix_has_its_inverse longleys_data_have_their_squared_correlation",
        "s = given.astype(np.float64)\ngiven += 1": "no_input_is_written_to"},
    "largest = np.abs(values).max(axis=-1, keepdims=True)": {
        "largest = np.ones_like(values[..., :1])": "the_unit_of_the_covariance_does_not_matter",
        "largest = np.full_like(values[..., :1], np.abs(values).max())":
            "each_matrix_of_a_stack_is_inverted_alone"},
    "eps = float(np.finfo(given.dtype if given.dtype.kind == \"f\" else float).eps)": {
        "eps = 1e-15 / s.shape[-1]": "the_dtype_is_that_of_the_data",
        "eps = 1e6 * float(np.finfo(given.dtype).eps)": "the_default_cut_off_is_c_eps"},
    'inverse = np.einsum("...ki,...kj->...ij", u, u)': {
        "inverse = np.einsum('...ki,...kj->...ij', u, u)\ninverse[..., 0, 1:] *= 1 + np.finfo(float).eps":
            "the_result_is_symmetric_to_the_last_bit",
        "inverse = -np.einsum('...ki,...kj->...ij', u, u)":
            "no_eigenvalue_of_the_inverse_is_negative the_first_identity_of_moore_and_penrose_holds",
        "inverse = np.einsum('...ki,...kj->...ij', root[..., None] * u, u)":
            "a_singular_matrix_has_its_pseudo_inverse the_second_identity_of_moore_and_penrose_holds",
        "inverse = np.triu(np.einsum('...ki,...kj->...ij', u, u))":
            "the_third_identity_of_moore_and_penrose_holds the_fourth_identity_of_moore_and_penrose_holds"},
    "if (given != given.swapaxes(-1, -2)).any():": {
        "if given.ndim < 2:": "a_matrix_that_is_not_symmetric_is_refused"},
    "if not np.isfinite(given).all():": {
        "if not np.isfinite(given).all():\n    return given\nif False:":
            "a_matrix_that_is_not_finite_is_refused"},
    "if given.shape[-1] != given.shape[-2]:": {
        "if given.shape[-1] != given.shape[-2]:\n    return given\nif False:":
            "a_matrix_that_is_not_square_is_refused"},
    "if (values < -1e-3 * largest).any():": {"if False:": "a_negative_variance_is_refused"},
    "inverse = inverse.astype(np.float32 if given.dtype == np.float32 else np.float64)": {
        "inverse = inverse.astype(np.float64)": "the_dtype_is_that_of_the_data"},
    "return (inverse, keep.sum(axis=-1)) if return_rank else inverse": {
        "return (inverse, np.full(keep.shape[:-1], len(keep.T))) if return_rank else inverse":
            "the_rank_counts_the_eigenvalues_that_are_kept",
        "return np.squeeze(inverse)": "a_stack_of_one_keeps_its_axis"},
    "given = np.asarray(covariance)": {
        "given = np.asarray(covariance)\ngiven *= 1": "read_only_inputs_are_accepted"},
}
DISTANCE = {
    "d = np.maximum(d, 0)": {
        "d = np.maximum(d, 1e-24)": "the_mean_has_distance_zero",
        "d = np.abs(d) * np.sign(d)": "a_distance_is_never_negative_or_nan"},
    "d = d if squared else np.sqrt(d)": {
        "d = d + 0": "distances_are_roots_by_default with_the_identity_the_distance_is_euclidean",
        "d = np.sqrt(d)": "squared_gives_squared_distances"},
    "dtype = np.result_type(x, mean, p)": {"dtype = np.float64": "the_dtype_is_that_of_the_data"},
    "z = np.atleast_2d(x).astype(float) - mean.astype(float)[..., None, :]": {
        "z = np.atleast_2d(x).astype(float) - mean.astype(float)[..., None, :]\nx -= 1":
            "no_input_is_written_to read_only_inputs_are_accepted"},
    'd = np.einsum("...ni,...ij,...nj->...n", z, p.astype(float), z)': {
        "d = np.einsum('...ni,...ij,...nj->...n', z, np.linalg.pinv(p.astype(float)), z)":
            "the_third_argument_is_the_inverse_covariance",
        "d = np.einsum('...ni,...ii,...ni->...n', z, p.astype(float), z)": "distances_are_roots_by_default",
        "d = np.einsum('...ni,ij,...nj->...n', z, p[(0,) * (p.ndim - 2)].astype(float), z)":
            "each_item_of_a_stack_has_its_own_gaussian",
        "y, m = x, mean[..., None, :]\nd = ((y @ p) * y - 2 * (y @ p) * m + (m @ p) * m).sum(-1)":
            "an_offset_costs_no_digits"},
    "if not x.shape[-1] == mean.shape[-1] == p.shape[-1]:": {
        "if x.shape[-1] != p.shape[-1] and x.shape[-1] != 1:": "shapes_that_do_not_fit_are_refused"},
    "return d if x.ndim > 1 else d[..., 0]": {"return d": "a_vector_is_one_sample"},
}
GAUSSIAN = {
    's = np.einsum("n,pni,pnj->pij", w, z, z) / (w.sum() - 1)': {
        "s = np.einsum('n,pni,pnj->pij', w, z, z) / w.sum()":
            "the_inverse_is_that_of_the_covariance_plus_ridge",
        "s = np.einsum('n,pni,pnj->pij', w, z, z) / (w.sum() - (w * w).sum() / w.sum())":
            "a_sample_weight_of_two_is_the_sample_twice",
        "s = (np.einsum('n,pni,pnj->pij', w, x, x) - w.sum() * mean.swapaxes(1, 2) @ mean) / (w.sum() - 1)":
            "an_offset_costs_no_digits"},
    "s = s + 0.01 * np.eye(s.shape[-1])": {
        "s = s + 1e-9 * np.eye(s.shape[-1])": "fewer_samples_than_features_are_fine",
        "s = s + 0.01001 * np.eye(s.shape[-1])": "a_constant_feature_has_the_ridge_as_variance",
        "s = s + (0.01 * np.trace(s, axis1=1, axis2=2)[:, None, None] + 1e-12) * np.eye(s.shape[-1])":
            "a_constant_feature_has_the_ridge_as_variance",
        "s = (s + 0.01 * np.eye(s.shape[-1])).astype(given.dtype)": "single_precision_is_computed_in_double"},
    "return np.moveaxis(embedding.reshape(*embedding.shape[:2], -1), -1, 0)": {
        "return np.moveaxis(embedding.swapaxes(2, 3).reshape(*embedding.shape[:2], -1), -1, 0)":
            "patches_are_numbered_row_by_row"},
    "mean = np.average(x, axis=1, weights=w, keepdims=True)": {
        "mean = np.broadcast_to(x.mean(axis=(0, 1)), (len(x), 1, x.shape[2]))":
            "patches_are_numbered_row_by_row",
        "mean = getattr(self, 'exact', np.average(x, axis=1, weights=w, keepdims=True))":
            "fitting_again_replaces_the_first_fit"},
    "z = x - mean": {
        "z = (x - mean).astype(np.float32)": "the_inverse_is_that_of_the_covariance_plus_ridge"},
    'inverse = np.einsum("pki,pkj->pij", self.u, self.u)': {
        "inverse = np.einsum('pki,pkj->pij', self.u, self.u)\ninverse[:, 0, 1:] *= 1 + np.finfo(float).eps":
            "the_inverse_is_symmetric_to_the_last_bit",
        "inverse = np.einsum('pki,pkj->pij', self.u, self.u) - 1000 * np.eye(s.shape[-1])":
            "the_inverse_is_positive_definite"},
    "if len(given) < 2:": {
        "if len(given) < 2:\n    self.mean = self.inv_covariance = given\n    return self":
            "a_single_sample_is_refused"},
    "if np.isnan(given).any() or np.isinf(given).any():": {
        "given = np.nan_to_num(given)\nif False:": "an_embedding_that_is_not_finite_is_refused"},
    "x = stacked(given.astype(float))": {
        "x = stacked(given.astype(float))\ngiven -= 1":
            "no_input_is_written_to read_only_inputs_are_accepted"},
    "w = np.ones(len(given)) if sample_weight is None else np.asarray(sample_weight, float)": {
        "w = np.ones(len(given)) if sample_weight is None else np.floor(sample_weight)":
            "sample_weights_may_be_fractional",
        "w = np.ones(len(given)) if sample_weight is None else np.maximum(sample_weight, 0.25)":
            "a_sample_weight_of_zero_drops_the_sample",
        "w = np.ones(len(given)) if sample_weight is None else sample_weight / np.mean(sample_weight)":
            "sample_weights_that_sum_to_one_are_refused"},
    "return self.mean, self.inv_covariance": {
        "return self.inv_covariance, self.mean": "what_fit_returns_unpacks_into_the_parameters"},
    "self.mean, self.inv_covariance = mean[:, 0].T.astype(kind), inverse.astype(kind)": {
        "self.mean, self.inv_covariance = mean[:, 0].astype(kind), inverse.astype(kind)":
            "means_are_features_by_patches",
        "self.mean, self.inv_covariance = mean[:, 0].T, inverse.astype(kind)":
            "results_have_the_dtype_of_the_embedding"},
    # the mistakes of a score
    "z = stacked(images.astype(float)) - self.exact": {
        "z = stacked(images.astype(float))":
            "a_distance_is_that_from_the_gaussian_of_the_patch images_that_were_fitted_have_distances_too",
        "z = stacked(images.astype(float)) - self.exact - 1e-6": "the_mean_image_has_distance_zero",
        "z = (stacked(images.astype(float)) - self.exact).astype(np.float32)":
            "a_distance_is_that_from_the_gaussian_of_the_patch",
        "z = stacked(images.astype(float)) - self.exact.astype(np.float32)":
            "an_offset_costs_distances_no_digits",
        "z = stacked(images.astype(float))\nz = z - z.mean(axis=1, keepdims=True)":
            "the_other_images_do_not_matter",
        "z = stacked(images.astype(float)) - self.exact\nimages -= 1":
            "no_image_is_written_to read_only_images_are_accepted"},
    'y = np.einsum("pij,pnj->pni", self.u, z)': {
        "y = z + 0": "a_distance_is_that_from_the_gaussian_of_the_patch",
        "y = np.einsum('pij,pnj->pni', np.linalg.inv(self.u), z)":
            "a_distance_is_that_from_the_gaussian_of_the_patch",
        "y = np.einsum('pji,pnj->pni', self.u, z)": "a_distance_is_that_from_the_gaussian_of_the_patch",
        "y = np.einsum('ij,pnj->pni', self.u[0], z)": "a_distance_is_that_from_the_gaussian_of_the_patch",
        "y = np.einsum('pij,pnj->pni', self.inv_covariance, z)":
            "a_distance_is_that_from_the_gaussian_of_the_patch",
        "y = np.einsum('pii,pni->pni', self.u, z)":
            "distances_with_fewer_samples_than_features_count_all_directions",
        "s = np.linalg.inv(self.inv_covariance) + 0.01 * np.eye(z.shape[-1])\n"
        "y = np.linalg.solve(np.linalg.cholesky(s), z.swapaxes(1, 2)).swapaxes(1, 2)":
            "distances_from_a_constant_patch_are_those_of_the_ridge",
        "y = np.einsum('pij,pnj->pni', self.__dict__.setdefault('first', self.u), z)":
            "distances_are_those_of_the_last_fit"},
    "d = np.sqrt((y * y).sum(axis=-1))": {
        "d = (y * y).sum(axis=-1)": "a_distance_is_that_from_the_gaussian_of_the_patch",
        "d = -np.sqrt((y * y).sum(axis=-1))": "a_distance_is_that_from_the_gaussian_of_the_patch",
        "d = np.sqrt((y * y).sum(axis=-1) + 1e-12)": "the_mean_image_has_distance_zero",
        "d = np.sqrt((y * y).sum(axis=-1))\nd = d / d.max(initial=1)": "the_other_images_do_not_matter"},
    "return d.T.reshape(len(images), *self.shape[1:])": {
        "return np.full(999, -1.0)": "distances_are_images_by_the_grid",
        "return d.T": "distances_are_images_by_the_grid",
        "return np.squeeze(d.T.reshape(len(images), *self.shape[1:]))": "distances_are_images_by_the_grid",
        "return d.reshape(len(images), *self.shape[1:])":
            "a_distance_is_that_from_the_gaussian_of_the_patch"},
    "self.shape, self.exact = given.shape[1:], mean": {
        "self.shape, self.exact = given.shape[1:], x.mean(axis=1, keepdims=True)":
            "distances_have_the_weighted_mean_and_covariance"},
    "if images.shape[1:] != self.shape:": {"if False:": "images_that_do_not_fit_are_refused"},
    "if not np.isfinite(images).all():": {
        "images = np.nan_to_num(images)\nif False:": "images_that_do_not_fit_are_refused"},
}
# fmt: on
TABLE = {"cov": COV, "pinv": PINV, "mahalanobis": DISTANCE, "Gaussian": GAUSSIAN}
#: Name, changed line and law of every mutant.
ROWS = [
    (name, changed, law)
    for name, lines in TABLE.items()
    for mutants in lines.values()
    for changed, laws in mutants.items()
    for law in laws.split()
]
SOURCE = Path(reference.__file__).read_text(encoding="utf-8").splitlines()


@cache
def mutant(name, changed):
    """Return a function or class of the reference with one line changed: the first such line of it."""
    (line,) = [line for line, mutants in TABLE[name].items() if changed in mutants]
    start = next(i for i, text in enumerate(SOURCE) if text.startswith((f"def {name}(", f"class {name}:")))
    at = next(i for i, text in enumerate(SOURCE) if i > start and text.strip() == line)
    indent = SOURCE[at].removesuffix(line)
    source = [*SOURCE[:at], textwrap.indent(changed, indent), *SOURCE[at + 1 :]]
    namespace = {}
    exec(compile("\n".join(source), f"reference with {changed!r}", "exec"), namespace)
    return namespace[name]
