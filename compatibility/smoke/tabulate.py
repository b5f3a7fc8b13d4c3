"""A table in several formats."""

from tabulate import tabulate

rows = [["tea", 3.5], ["ham", 12]]
all(
    (
        tabulate(rows, headers=["what", "price"], tablefmt="github").splitlines()[2].count("|")
        == 3,
        "<td>tea" in tabulate(rows, tablefmt="html"),
        len(tabulate(rows, tablefmt="grid").splitlines()) == 5,
    )
)
