"""The machine's memory and load, and the file system of the working directory."""

import psutil

memory = psutil.virtual_memory()
all(
    (
        0 < memory.available <= memory.total,
        psutil.cpu_count() >= 1,
        psutil.cpu_times().user >= 0,
        len(psutil.getloadavg()) == 3,
        psutil.disk_usage(".").total > 0,
    )
)
