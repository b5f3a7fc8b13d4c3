"""A progress bar, drawn into a string."""

import io

from tqdm import tqdm, trange

drawn = io.StringIO()
total = sum(tqdm(range(1000), file=drawn, desc="sum"))
with tqdm(total=10, file=drawn, unit="B", unit_scale=True) as bar:
    bar.update(10)
all(
    (
        total == 499500,
        "sum: 100%" in drawn.getvalue(),
        len(list(trange(3, file=drawn, leave=False))) == 3,
    )
)
