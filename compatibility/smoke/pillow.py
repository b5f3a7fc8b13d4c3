"""Images: drawing, text, filters; PNG, JPEG and WebP round trips."""

import io

from PIL import Image, ImageDraw, ImageFilter, ImageFont

image = Image.new("RGB", (64, 48), "white")
draw = ImageDraw.Draw(image)
draw.ellipse((10, 10, 40, 40), fill=(200, 30, 30))
draw.text((5, 5), "text", fill="black", font=ImageFont.load_default(size=12))


def round_trip(kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


near = round_trip("JPEG").getpixel((25, 30))
all(
    (
        round_trip("PNG").tobytes() == image.tobytes(),
        abs(near[0] - 200) < 12 and abs(near[1] - 30) < 12,
        round_trip("WEBP").size == (64, 48),
        image.resize((32, 24), Image.Resampling.LANCZOS).size == (32, 24),
        image.filter(ImageFilter.GaussianBlur(2)).getpixel((0, 47)) == (255, 255, 255),
        image.rotate(90, expand=True).size == (48, 64),
    )
)
