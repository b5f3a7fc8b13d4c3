"""A figure with text, drawn as PNG and as PDF into memory."""

import io

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2)
left.plot([1, 2, 3], [2, 4, 8], label="growth $x^2$")
left.legend()
right.hist([1, 1, 2, 3, 5, 8], bins=4)
figure.suptitle("two plots")
png, pdf = io.BytesIO(), io.BytesIO()
figure.savefig(png, format="png", dpi=60)
figure.savefig(pdf, format="pdf")
plt.close(figure)
all((png.getvalue()[:8] == b"\x89PNG\r\n\x1a\n", pdf.getvalue()[:5] == b"%PDF-"))
