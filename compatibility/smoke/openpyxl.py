"""A workbook with formulas and styles, written to memory and read back."""

import io
from datetime import date

from openpyxl import Workbook, load_workbook
from openpyxl.styles import Font

book = Workbook()
sheet = book.active
sheet.append(["name", "n", "day"])
for number in range(5):
    sheet.append([f"row {number}", number, date(2024, 1, number + 1)])
sheet["D1"] = "=SUM(B2:B6)"
sheet["A1"].font = Font(bold=True)
buffer = io.BytesIO()
book.save(buffer)
read = load_workbook(io.BytesIO(buffer.getvalue())).active
all(
    (
        [row[1] for row in read.iter_rows(2, 6, values_only=True)] == [0, 1, 2, 3, 4],
        read["C3"].value.day == 2,
        read["D1"].value == "=SUM(B2:B6)",
        read["A1"].font.bold,
    )
)
