"""A workbook with a chart, written to memory and to a file; its parts are checked."""

import io
import zipfile

import xlsxwriter

buffer = io.BytesIO()
for target in (buffer, "report.xlsx"):
    with xlsxwriter.Workbook(target) as book:
        sheet = book.add_worksheet("data")
        sheet.write_column("A1", [3, 1, 4, 1, 5], book.add_format({"bold": True}))
        chart = book.add_chart({"type": "line"})
        chart.add_series({"values": "=data!$A$1:$A$5"})
        sheet.insert_chart("C1", chart)
names = zipfile.ZipFile(buffer).namelist()
all(
    (
        "xl/charts/chart1.xml" in names,
        zipfile.ZipFile("report.xlsx").namelist() == names,
        b"<v>4</v>" in zipfile.ZipFile(buffer).read("xl/worksheets/sheet1.xml"),
    )
)
