"""From anomaly maps to regions, and how well maps find the true ones (AUPRO); NumPy and SciPy alone.

The functions may be imported or copied.
"""

import numpy as np
from scipy import ndimage

#: Pixels that touch at a corner belong to one region.
CORNERS = np.ones((3, 3), bool)


def regions(heat, limit, area=1):
    """Return the regions of a map (h, w) above a limit as (box, area, largest value), largest value first.

    A box is (top, left, bottom, right), the last two exclusive. Regions of fewer pixels than `area` are left
    out.
    """
    labels, n = ndimage.label(heat > limit, CORNERS)
    sizes = np.bincount(labels.ravel())[1:]
    peaks = ndimage.maximum(heat, labels, np.arange(1, n + 1))
    found = [
        ((rows.start, columns.start, rows.stop, columns.stop), int(size), float(peak))
        for (rows, columns), size, peak in zip(ndimage.find_objects(labels), sizes, peaks, strict=True)
        if size >= area
    ]
    return sorted(found, key=lambda region: -region[2])


def score_of_area(maps, area=1):
    """Return the `area`-th largest value of each map (N, h, w), (N,).

    A region of `area` pixels lies above a limit only if this value does.
    """
    flat = np.reshape(maps, (len(maps), -1))
    return np.sort(flat, axis=1)[:, -area]


def aupro(maps, masks, limit=0.3):
    """Return the area under the per-region overlap, up to a false positive rate, divided by that rate.

    Parameters
    ----------
    maps : array_like, shape (N, h, w)
        Anomaly maps, larger where more anomalous; of good images too.
    masks : array_like of bool, shape (N, h, w)
        Where the defects are.
    limit : float, default 0.3
        The largest false positive rate, in (0, 1].

    Returns
    -------
    float
        Between 0 and 1.

    Notes
    -----
    For each threshold, the overlap is the mean over all true regions (connected pixels of a mask) of the
    share of the region that lies above it; the false positive rate is the share of all pixels outside of the
    masks, of all images together. Between thresholds the curve is a straight line, and is cut at `limit`.
    From Bergmann et al., "Uninformed Students" (2020).
    """
    maps, masks = np.asarray(maps, float), np.asarray(masks, bool)
    if maps.shape != masks.shape or maps.ndim != 3:
        raise ValueError(f"masks: expected the shape (N, h, w) of maps, got {masks.shape} and {maps.shape}")
    if not masks.any() or masks.all():
        raise ValueError("masks: expected pixels with and without a defect")
    if not 0 < limit <= 1:
        raise ValueError(f"limit: expected more than 0 and at most 1, got {limit}")
    overlap, false = np.zeros(maps.shape), ~masks / (~masks).sum()
    count = 0
    for mask, share in zip(masks, overlap, strict=True):
        labels, n = ndimage.label(mask, CORNERS)
        sizes = np.bincount(labels.ravel())
        share[mask] = 1 / sizes[labels[mask]]
        count += n
    order = np.argsort(-maps, axis=None)
    values = maps.ravel()[order]
    last = np.append(values[1:] != values[:-1], True)  # equal values pass a threshold together
    rate = np.append(0.0, np.cumsum(false.ravel()[order])[last])
    pro = np.append(0.0, np.cumsum(overlap.ravel()[order])[last]) / count
    inside = rate < limit
    x, y = np.append(rate[inside], limit), np.append(pro[inside], np.interp(limit, rate, pro))
    return float(np.trapezoid(y, x) / limit)
