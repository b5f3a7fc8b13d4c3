"""Encryption, key agreement, signatures, key derivation, a certificate."""

import datetime

from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import NameOID

box = Fernet(Fernet.generate_key())
mine, yours = x25519.X25519PrivateKey.generate(), x25519.X25519PrivateKey.generate()
shared = mine.exchange(yours.public_key())
key = HKDF(hashes.SHA256(), 32, None, b"test").derive(shared)
signer = ed25519.Ed25519PrivateKey.generate()
signer.public_key().verify(signer.sign(b"text"), b"text")
name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x.test")])
day = datetime.datetime(2024, 1, 1)
holder = ec.generate_private_key(ec.SECP256R1())
certificate = (
    x509.CertificateBuilder(name, name, holder.public_key(), 7)
    .not_valid_before(day)
    .not_valid_after(day + datetime.timedelta(30))
    .sign(holder, hashes.SHA256())
)
all(
    (
        box.decrypt(box.encrypt(b"text")) == b"text",
        shared == yours.exchange(mine.public_key()),
        AESGCM(key).decrypt(b"0" * 12, AESGCM(key).encrypt(b"0" * 12, b"text", b""), b"")
        == b"text",
        len(ChaCha20Poly1305(key).encrypt(b"0" * 12, b"text", None)) == 20,
        certificate.serial_number == 7,
    )
)
