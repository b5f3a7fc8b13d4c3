"""Arrays: linear algebra (BLAS and LAPACK), Fourier transform, random numbers, sorting."""

import numpy as np

rng = np.random.default_rng(7)
a = rng.standard_normal((120, 120))
b = rng.standard_normal(120)
x = np.linalg.solve(a, b)
u, s, vt = np.linalg.svd(a)
signal = np.sin(2 * np.pi * 5 * np.arange(256) / 256)
all(
    (
        np.allclose(a @ x, b),
        np.allclose(u @ np.diag(s) @ vt, a),
        int(np.argmax(np.abs(np.fft.rfft(signal)))) == 5,
        bool((np.diff(np.sort(b)) >= 0).all()),
        np.einsum("ij,ji->", a, a.T) > 0,
    )
)
