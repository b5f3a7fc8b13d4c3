"""A graph of tasks, run on one thread and on a thread pool."""

import dask
import dask.bag as db

double = dask.delayed(lambda n: n * 2)
graph = dask.delayed(sum)([double(i) for i in range(50)])
bag = db.from_sequence(range(100), npartitions=4).map(lambda n: n % 7).frequencies()
all(
    (
        graph.compute(scheduler="sync") == 2450,
        graph.compute(scheduler="threads", num_workers=2) == 2450,
        dict(bag.compute(scheduler="threads", num_workers=2))[0] == 15,
    )
)
