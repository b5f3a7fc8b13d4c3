"""A document of two pages, turned, encrypted, merged and read back."""

import io

from pypdf import PdfReader, PdfWriter

writer = PdfWriter()
writer.add_blank_page(200, 300)
writer.add_blank_page(200, 300).rotate(90)
writer.add_metadata({"/Title": "two pages"})
first = io.BytesIO()
writer.write(first)
both = PdfWriter()
both.append(PdfReader(first))
both.append(PdfReader(first), pages=(0, 1))
second = io.BytesIO()
both.write(second)
read = PdfReader(second)
all(
    (
        len(read.pages) == 3,
        read.pages[1].rotation == 90,
        PdfReader(first).metadata.title == "two pages",
        read.pages[0].extract_text() == "",
    )
)
