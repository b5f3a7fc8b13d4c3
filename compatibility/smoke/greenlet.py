"""Two stacks that switch to each other, and an exception across the switch."""

from greenlet import GreenletExit, getcurrent, greenlet

order = []


def worker():
    for number in range(3):
        order.append(("in", number))
        main.switch(number)


main = getcurrent()
other = greenlet(worker)
for _ in range(3):
    order.append(("out", other.switch()))
all(
    (
        order == [("in", 0), ("out", 0), ("in", 1), ("out", 1), ("in", 2), ("out", 2)],
        isinstance(other.throw(), GreenletExit),
        other.dead,
    )
)
