"""A small shop in an in-memory database.

tries:  sqlite3 in memory: rollback, window query
expect: ok
value:  [["bolt", 40, 40], ["nut", 85, 125], ["washer", 12, 137]]
"""

import sqlite3

shop = sqlite3.connect(":memory:")
shop.executescript(
    """
    create table item (name text primary key, price_cents integer not null check (price_cents > 0));
    create table sale (item text not null references item, pieces integer not null);
    insert into item values ('bolt', 10), ('nut', 5), ('washer', 2);
    insert into sale values ('bolt', 4), ('nut', 10), ('nut', 7), ('washer', 6);
    """
)
try:
    with shop:
        shop.execute("insert into sale values ('bolt', 1000)")
        shop.execute("insert into item values ('free lunch', 0)")
except sqlite3.IntegrityError as error:
    print("rolled back:", error)

rows = shop.execute(
    """
    select name, sum(pieces * price_cents) as cents,
           sum(sum(pieces * price_cents)) over (order by name)
    from item join sale on sale.item = item.name group by name order by name
    """
).fetchall()
for name, cents, running in rows:
    print(f"{name:<8}{cents / 100:>6.2f}{running / 100:>7.2f}")

[list(row) for row in rows]
