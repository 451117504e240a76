"""The loop of the detector, in a module beside it."""

import math

import numba


@numba.njit(cache=True)
def shares(xs, mean, weight, edge, out):  # type: ignore[no-untyped-def]
    """The regime that the moving average of a share says: trend beyond ``edge`` of a half."""
    for i in range(xs.shape[0]):
        if math.isfinite(xs[i, 0]):
            mean[0] = xs[i, 0] if math.isnan(mean[0]) else mean[0] + weight * (xs[i, 0] - mean[0])
        for k in range(4):
            out[i, k] = -1.0 if k == 3 and math.isnan(mean[0]) else math.nan if math.isnan(mean[0]) else 0.0
        if not math.isnan(mean[0]):
            regime = 0 if abs(mean[0] - 0.5) > edge else 1
            out[i, regime] = 1.0
            out[i, 3] = regime
