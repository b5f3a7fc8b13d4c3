"""The protocol between host and guest, as pure code.

What: bytes in, events out; commands in, bytes out.  Because: one side of it is written by
an attacker, so it must be testable without a process, a socket or a clock.  Then: the same
files run on the host and inside the guest, and import nothing but small C modules.

limits      budgets, what a decoded value costs, caps on texts
errors      whose fault it was
values      the closed set of types, as MessagePack (``encoder``, ``decoder``; ``scalars``: those
            it has no type for; ``keys``: dictionary keys chosen to make the host slow;
            ``records``: what is plain data in other clothes; ``arrays``, ``tables``)
bulk        large parts, which go beside their value
frames      length, kind, payload
schema      field types as data;  events: the nouns;  states: the legal order of them
connection  the four put together
control     host and zygote, both trusted, on the same frames and values
"""
