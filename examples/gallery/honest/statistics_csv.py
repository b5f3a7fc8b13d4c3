"""Statistics over a CSV of 300 real measurements (data/fork_latency.csv).

tries:  mean, median, deviation, regression over a CSV
files:  fork_latency.csv
expect: ok
value:  {"rows": 300, "medians_us": [462.7, 944.9, 2354.1], "us_per_mib": 28.6}
"""

import csv
import statistics

with open("fork_latency.csv", newline="") as file:
    rows = list(csv.DictReader(line for line in file if not line.startswith("#")))

by_size = {}
for row in rows:
    by_size.setdefault(int(row["resident_mib"]), []).append(float(row["fork_us"]))

print("fork + exit + wait, microseconds")
print(f"{'resident':>12}{'n':>6}{'mean':>9}{'median':>9}{'stdev':>8}{'p95':>9}")
for size, samples in sorted(by_size.items()):
    print(
        f"{size:>8} MiB{len(samples):>6}{statistics.fmean(samples):>9.1f}"
        f"{statistics.median(samples):>9.1f}{statistics.stdev(samples):>8.1f}"
        f"{statistics.quantiles(samples, n=20)[-1]:>9.1f}"
    )

slope, intercept = statistics.linear_regression(
    [float(row["resident_mib"]) for row in rows],
    [float(row["fork_us"]) for row in rows],
)
print(f"each resident MiB adds {slope:.1f} us to {intercept:.0f} us")

{
    "rows": len(rows),
    "medians_us": [round(statistics.median(by_size[size]), 1) for size in sorted(by_size)],
    "us_per_mib": round(slope, 1),
}
