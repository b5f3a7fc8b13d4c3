"""Symbols: integration, equations, series, exact arithmetic."""

from sympy import E, Rational, cos, exp, factor, integrate, oo, series, sin, solve, symbols

x = symbols("x")
all(
    (
        integrate(exp(-(x**2)) * x, (x, 0, oo)) == Rational(1, 2),
        sorted(solve(x**2 - 5 * x + 6, x)) == [2, 3],
        factor(x**4 - 1) == (x - 1) * (x + 1) * (x**2 + 1),
        series(cos(x), x, 0, 5).removeO() == 1 - x**2 / 2 + x**4 / 24,
        (sin(x) ** 2 + cos(x) ** 2).simplify() == 1,
        str(E.evalf(30)) == "2.71828182845904523536028747135",
    )
)
