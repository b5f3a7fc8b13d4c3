"""Four worker threads, which is within the default limit.

tries:  a pool of four threads, a lock, an event
expect: ok
value:  {"total": 4950, "workers": True}
"""

import concurrent.futures
import threading

seen = set()
lock = threading.Lock()
together = threading.Barrier(4)


def work(number):
    with lock:
        seen.add(threading.get_ident())
    return number


def meet():
    """Returns only if four threads run at once."""
    together.wait(timeout=5)


with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
    meetings = [pool.submit(meet) for _ in range(4)]
    for meeting in meetings:
        meeting.result()
    total = sum(pool.map(work, range(100)))

{"total": total, "workers": 1 <= len(seen) <= 4}
