"""Labelled arrays: selection, grouping, arithmetic by label."""

import numpy as np
import pandas as pd
import xarray as xr

times = pd.date_range("2024-01-01", periods=60)
data = xr.DataArray(
    np.arange(120.0).reshape(60, 2), dims=("time", "x"), coords={"time": times, "x": [10, 20]}
)
monthly = data.groupby("time.month").mean()
all(
    (
        monthly.sizes == {"month": 2, "x": 2},
        float(data.sel(time="2024-01-03", x=20)) == 5.0,
        float((data - data.mean("time")).sum()) == 0.0,
        data.to_dataset(name="d").to_dataframe().shape == (120, 1),
    )
)
