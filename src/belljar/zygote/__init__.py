"""The trusted processes between host and guest: launcher and zygote."""
