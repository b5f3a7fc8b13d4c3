"""Tables in memory and on disk, full-text search, a Python function in SQL."""

import sqlite3

with sqlite3.connect("orders.sqlite") as disk:
    disk.execute("pragma journal_mode = wal")
    disk.execute("create table orders (what text, price real)")
    disk.executemany("insert into orders values (?, ?)", [("tea", 3.5), ("ham", 12)])
    disk.commit()
memory = sqlite3.connect(":memory:")
disk.backup(memory)
memory.create_function("shout", 1, str.upper)
memory.execute("create virtual table notes using fts5(body)")
memory.execute("insert into notes values ('a cup of tea'), ('a slice of ham')")
all(
    (
        memory.execute("select sum(price) from orders").fetchone() == (15.5,),
        memory.execute("select shout(what) from orders order by 1").fetchall()
        == [("HAM",), ("TEA",)],
        memory.execute("select body from notes where notes match 'tea'").fetchall()
        == [("a cup of tea",)],
    )
)
