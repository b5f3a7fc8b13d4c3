"""Calls into the C library and memory of C types."""

from cffi import FFI

ffi = FFI()
ffi.cdef("""
    int atoi(const char *);
    char *strchr(const char *, int);
    typedef struct { int x; double y; } pair;
""")
libc = ffi.dlopen(None)
text = ffi.new("char[]", b"sand box")
numbers = ffi.new("int[]", [3, 1, 2])
pair = ffi.new("pair *", {"x": 1, "y": 2.5})
all(
    (
        libc.atoi(b"42") == 42,
        ffi.string(libc.strchr(text, ord("b"))) == b"box",
        list(ffi.unpack(numbers, 3)) == [3, 1, 2],
        pair.y == 2.5,
        ffi.sizeof("pair") == 16,
    )
)
