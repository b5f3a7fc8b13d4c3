"""A NumPy fit and a Matplotlib figure over the measurements.

tries:  a least-squares fit and a figure, NumPy and Matplotlib
files:  fork_latency.csv
grants: packages=numpy,matplotlib wall_s=120 cpu_s=120 memory_bytes=2147483648
expect: ok
value:  {"us_per_mib": 28.6, "png": True}
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one thread is plenty for 300 rows
os.environ["MPLCONFIGDIR"] = "/tmp"  # the font cache is built there

import matplotlib

matplotlib.use("Agg")  # draws into memory; there is no screen in here

import matplotlib.pyplot as plt
import numpy as np

table = np.genfromtxt("fork_latency.csv", delimiter=",", comments="#", skip_header=4)
size, latency = table[:, 1], table[:, 2]
slope, intercept = np.polyfit(size, latency, 1)
print(f"fork_us = {intercept:.0f} + {slope:.1f} * resident_mib")

figure, axes = plt.subplots(figsize=(5, 3))
axes.scatter(size, latency, s=8, alpha=0.4)
axes.plot([0, 64], [intercept, intercept + 64 * slope])
axes.set(xlabel="resident memory, MiB", ylabel="fork + exit + wait, µs")
figure.savefig("fork_latency.png")

with open("fork_latency.png", "rb") as file:
    png = file.read(8) == b"\x89PNG\r\n\x1a\n"

{"us_per_mib": round(float(slope), 1), "png": png}
