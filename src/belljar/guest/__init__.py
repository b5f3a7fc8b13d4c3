"""What runs inside: the agent that takes code from the host and tells what became of it.

Standard library only, and nothing here is a wall: the untrusted code shares the process
and can change all of it.  What it tells the host is a claim.
"""
