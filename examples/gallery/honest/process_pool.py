"""A pool of processes counts primes, and a program that was granted sorts what they found.

tries:  concurrent.futures in processes, and a pipe through sort
grants: processes=4 run=sort wall_s=60 cpu_s=60
expect: ok
value:  [["00168", "1000"], ["00071", "1500"], ["00064", "2000"]]
"""

import subprocess
from concurrent.futures import ProcessPoolExecutor


def is_prime(number):
    return number > 1 and all(number % d for d in range(2, int(number**0.5) + 1))


def primes(bounds):
    return bounds, sum(map(is_prime, range(*bounds)))


parts = [(0, 1000), (1000, 1500), (1500, 2000)]
with ProcessPoolExecutor(2) as pool:
    counted = dict(pool.map(primes, parts))

lines = "".join(f"{count:05d} {end}\n" for (_, end), count in counted.items())
done = subprocess.run(["sort", "-r"], input=lines, capture_output=True, text=True, check=True)
[line.split() for line in done.stdout.splitlines()]
