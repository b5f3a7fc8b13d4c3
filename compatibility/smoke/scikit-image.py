"""Image processing: edges, labels, thresholds, resizing."""

import numpy as np
from skimage import draw, filters, measure, morphology, transform

image = np.zeros((80, 80))
image[draw.disk((25, 25), 10)] = 1
image[draw.disk((60, 55), 12)] = 1
smooth = filters.gaussian(image, 1)
labels = measure.label(smooth > filters.threshold_otsu(smooth))
regions = measure.regionprops(labels)
all(
    (
        labels.max() == 2,
        abs(regions[0].centroid[0] - 25) < 0.5,
        filters.sobel(image).max() > 0,
        transform.resize(image, (40, 40), anti_aliasing=True).shape == (40, 40),
        int(morphology.dilation(image, morphology.disk(2)).sum()) > int(image.sum()),
    )
)
