"""A statistical plot, drawn into memory."""

import io

import matplotlib

matplotlib.use("Agg")
import pandas as pd
import seaborn as sns

frame = pd.DataFrame({"x": [1, 2, 3, 4] * 5, "y": range(20), "kind": ["a", "b"] * 10})
sns.set_theme()
axes = sns.lineplot(frame, x="x", y="y", hue="kind", errorbar=None)
grid = sns.catplot(frame, x="kind", y="y", kind="box")
png = io.BytesIO()
grid.savefig(png, format="png", dpi=50)
all((len(axes.lines) >= 2, png.getvalue()[:4] == b"\x89PNG"))
