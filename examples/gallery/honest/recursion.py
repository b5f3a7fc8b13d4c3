"""Recursive algorithms: queens, towers, and a recursion error that is caught.

tries:  backtracking, memoised recursion, a caught RecursionError
expect: ok
value:  {"queens": 92, "moves": 1023, "caught": True}
"""

import functools


def queens(size, columns=()):
    """Number of ways to place the remaining queens, one per row."""
    row = len(columns)
    if row == size:
        return 1
    return sum(
        queens(size, (*columns, column))
        for column in range(size)
        if all(column != c and abs(column - c) != row - r for r, c in enumerate(columns))
    )


@functools.cache
def moves(discs):
    """Moves that the towers of Hanoi need."""
    return 0 if discs == 0 else 2 * moves(discs - 1) + 1


def endless():
    return endless()


try:
    endless()
except RecursionError:
    caught = True

{"queens": queens(8), "moves": moves(10), "caught": caught}
