"""An honest program with a bug: the host gets the exception and what was printed before.

tries:  dividing by the length of an empty list
expect: raised ZeroDivisionError
prints: averaging 0 values
"""


def average(values):
    print(f"averaging {len(values)} values")
    return sum(values) / len(values)


average([])
