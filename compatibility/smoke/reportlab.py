"""A document with text, a table and a drawing."""

import io

from reportlab.graphics.shapes import Circle, Drawing
from reportlab.lib.pagesizes import A5
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Table

drawing = Drawing(60, 60)
drawing.add(Circle(30, 30, 20))
buffer = io.BytesIO()
text = Paragraph("Some <b>bold</b> text. " * 20, getSampleStyleSheet()["Normal"])
document = SimpleDocTemplate(buffer, pagesize=A5, invariant=1)
document.build([text, PageBreak(), Table([["a", 1], ["b", 2]]), drawing])
pdf = buffer.getvalue()
all((pdf[:5] == b"%PDF-", document.page == 2, b"%%EOF" in pdf[-10:]))
