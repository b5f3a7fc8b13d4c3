"""The host's side of what a guest asks for: checks and accounts.

Who I am: code of the host that decides whether a request from inside is granted.  What I trust:
the policy, and the application that calls me.  What comes from a guest is hostile: names, amounts
and entries are checked before they are used, and are bounded in every message.
"""
