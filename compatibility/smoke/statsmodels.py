"""A least-squares model by formula, and a logistic one."""

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf

rng = np.random.default_rng(3)
x = rng.normal(size=300)
frame = pd.DataFrame({"x": x, "y": 2.0 + 3.0 * x + 0.01 * rng.normal(size=300)})
fit = smf.ols("y ~ x", frame).fit()
chosen = (x + rng.normal(size=300) > 0).astype(int)
logit = sm.Logit(chosen, sm.add_constant(x)).fit(disp=False)
all(
    (
        abs(fit.params["Intercept"] - 2) < 0.01,
        abs(fit.params["x"] - 3) < 0.01,
        logit.params[1] > 1,
        "R-squared" in str(fit.summary()),
    )
)
