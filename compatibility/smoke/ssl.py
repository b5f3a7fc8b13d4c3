"""A context, a handshake's first message in memory, digests; no network."""

import hashlib
import ssl

context = ssl.create_default_context()
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
client = context.wrap_bio(incoming, outgoing, server_hostname="x.test")
try:
    client.do_handshake()
    waits = False
except ssl.SSLWantReadError:
    waits = True
hello = outgoing.read()
all(
    (
        waits,
        hello[0] == 22 and b"x.test" in hello,
        context.verify_mode == ssl.CERT_REQUIRED,
        len(context.get_ciphers()) > 5,
        len(ssl.RAND_bytes(16)) == 16,
        hashlib.scrypt(b"password", salt=b"NaCl", n=1024, r=8, p=16)[:3].hex() == "fdbabe",
    )
)
