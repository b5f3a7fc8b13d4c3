"""Image processing: encoding, colours, contours, geometry."""

import cv2
import numpy as np

image = np.zeros((100, 120, 3), np.uint8)
cv2.rectangle(image, (20, 20), (60, 70), (0, 255, 0), -1)
cv2.putText(image, "cv", (70, 50), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 0, 0), 2)
written, png = cv2.imencode(".png", image)
grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
contours, _ = cv2.findContours((grey == 150).astype(np.uint8), cv2.RETR_EXTERNAL, 2)
all(
    (
        written,
        np.array_equal(cv2.imdecode(png, cv2.IMREAD_COLOR), image),
        max(cv2.contourArea(c) for c in contours) == 2000.0,
        cv2.GaussianBlur(image, (5, 5), 0).shape == image.shape,
        cv2.Canny(grey, 50, 150).any(),
        cv2.resize(image, (60, 50)).shape == (50, 60, 3),
    )
)
