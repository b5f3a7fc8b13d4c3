"""Ways to cut and join iterables."""

from more_itertools import chunked, divide, first, flatten, peekable, set_partitions, windowed

ahead = peekable(range(3))
all(
    (
        list(chunked(range(5), 2)) == [[0, 1], [2, 3], [4]],
        list(windowed([1, 2, 3], 2)) == [(1, 2), (2, 3)],
        ahead.peek() == first(ahead) == 0,
        [list(part) for part in divide(2, "abcd")] == [["a", "b"], ["c", "d"]],
        len(list(set_partitions("abc"))) == 5,
        list(flatten([[1], [2, 3]])) == [1, 2, 3],
    )
)
