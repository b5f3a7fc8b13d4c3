"""SQL over tables in memory, and a database file in the working directory."""

import duckdb

memory = duckdb.connect()
memory.execute("create table t as select range as n, 'k' || (range % 3) as k from range(3000)")
rows = memory.execute("select k, count(*), sum(n) from t group by k order by k").fetchall()
memory.execute("copy t to 'numbers.csv' (header)")
with duckdb.connect("numbers.duckdb") as file:
    file.execute("create table t as select * from read_csv('numbers.csv')")
    (total,) = file.execute("select sum(n) from t").fetchone()
all(
    (
        rows == [("k0", 1000, 1498500), ("k1", 1000, 1499500), ("k2", 1000, 1500500)],
        total == 4498500,
    )
)
