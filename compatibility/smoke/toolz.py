"""Functions over sequences and dicts."""

from operator import itemgetter

from toolz import curry, frequencies, groupby, merge_with, pipe, sliding_window, valmap

add = curry(lambda a, b: a + b)
all(
    (
        pipe([1, 2, 3], lambda seq: map(add(1), seq), sum) == 9,
        frequencies("abca") == {"a": 2, "b": 1, "c": 1},
        valmap(len, groupby(itemgetter(0), ["ab", "ac", "b"])) == {"a": 2, "b": 1},
        merge_with(sum, {"a": 1}, {"a": 2, "b": 3}) == {"a": 3, "b": 3},
        list(sliding_window(2, [1, 2, 3])) == [(1, 2), (2, 3)],
    )
)
