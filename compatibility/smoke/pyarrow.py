"""Columns in memory; Parquet and the stream format, written and read back; compute."""

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

table = pa.table({"n": list(range(1000)), "word": [f"w{i % 7}" for i in range(1000)]})
parquet = io.BytesIO()
pq.write_table(table, parquet, compression="zstd")
stream = pa.BufferOutputStream()
with pa.ipc.new_stream(stream, table.schema) as writer:
    writer.write_table(table)
grouped = table.group_by("word").aggregate([("n", "sum")])
all(
    (
        pq.read_table(io.BytesIO(parquet.getvalue())).equals(table),
        pa.ipc.open_stream(stream.getvalue()).read_all().equals(table),
        pc.sum(table["n"]).as_py() == 499500,
        sum(grouped["n_sum"].to_pylist()) == 499500,
        csv.read_csv(io.BytesIO(b"a,b\n1,x\n2,y\n")).column("a").to_pylist() == [1, 2],
    )
)
