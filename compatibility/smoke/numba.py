import numba
import numpy as np


@numba.njit
def triangle(numbers):
    total = 0.0
    for number in numbers:
        total += number
    return total


triangle(np.arange(101.0)) == 5050.0 and triangle.signatures != []
