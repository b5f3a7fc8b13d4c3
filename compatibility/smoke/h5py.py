"""An HDF5 file in memory and one in the working directory, with compression."""

import h5py
import numpy as np

data = np.arange(10000).reshape(100, 100)
with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file:
    file.create_dataset("group/data", data=data, chunks=True, compression="gzip")
    file["group"].attrs["unit"] = "m"
    inner = file["group/data"][10:20, ::10]
    unit = file["group"].attrs["unit"]
with h5py.File("disk.h5", "w") as file:
    file["data"] = data
with h5py.File("disk.h5") as file:
    read = file["data"][:]
all((np.array_equal(inner, data[10:20, ::10]), unit == "m", np.array_equal(read, data)))
