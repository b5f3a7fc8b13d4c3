"""A Python function that C calls: cffi writes its machine code at run time."""

from cffi import FFI

ffi = FFI()
ffi.cdef("void qsort(void *, size_t, size_t, int (*)(const int *, const int *));")
numbers = ffi.new("int[]", [3, 1, 2])
compare = ffi.callback("int(const int *, const int *)", lambda a, b: a[0] - b[0])
ffi.dlopen(None).qsort(numbers, 3, 4, compare)
all((list(numbers) == [1, 2, 3],))
