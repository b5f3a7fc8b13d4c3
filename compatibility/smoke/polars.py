"""A lazy query over several columns, on the thread pool; CSV in and out."""

import io

import polars as pl

frame = pl.DataFrame({"kind": ["a", "b", "a", "c"] * 500, "n": list(range(2000))})
query = (
    frame.lazy()
    .filter(pl.col("n") >= 4)
    .group_by("kind")
    .agg(pl.col("n").sum().alias("total"), pl.len())
    .sort("kind")
)
result = query.collect()
again = pl.read_csv(io.BytesIO(frame.write_csv().encode()))
joined = frame.join(result, on="kind")
all(
    (
        result["kind"].to_list() == ["a", "b", "c"],
        result["total"].sum() == sum(range(4, 2000)),
        again.equals(frame),
        joined.height == 2000,
    )
)
