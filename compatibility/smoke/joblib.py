"""Parallel calls on threads, a cache on disk, a dump and its load."""

from math import sqrt

from joblib import Memory, Parallel, delayed, dump, hash, load

roots = Parallel(n_jobs=2, prefer="threads")(delayed(sqrt)(i**2) for i in range(20))
calls = []
cached = Memory("cache", verbose=0).cache(lambda n: calls.append(n) or n * n)
answers = [cached(3), cached(3)]
dump({"roots": roots}, "roots.joblib", compress=3)
all(
    (
        roots == [float(i) for i in range(20)],
        answers == [9, 9],
        len(calls) == 1,
        load("roots.joblib") == {"roots": roots},
        hash([1, 2]) == hash([1, 2]),
    )
)
