"""Optimisation, sparse solving, integration, statistics, interpolation."""

import numpy as np
from scipy import integrate, interpolate, linalg, optimize, sparse, stats
from scipy.sparse.linalg import spsolve

found = optimize.minimize(optimize.rosen, [1.3, 0.7, 0.8, 1.9, 1.2], method="BFGS")
matrix = sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(50, 50), format="csc")
x = spsolve(matrix, np.ones(50))
area, _ = integrate.quad(np.exp, 0, 1)
curve = interpolate.CubicSpline(np.arange(9), np.arange(9) ** 3)
lu = linalg.lu_factor(np.eye(4) + 1)
all(
    (
        np.allclose(found.x, 1, atol=1e-4),
        np.allclose(matrix @ x, 1),
        abs(area - (np.e - 1)) < 1e-12,
        abs(float(curve(2.5)) - 15.625) < 1e-9,
        abs(stats.norm.ppf(0.975) - 1.959964) < 1e-6,
        np.allclose(linalg.lu_solve(lu, np.ones(4)), 0.2),
    )
)
