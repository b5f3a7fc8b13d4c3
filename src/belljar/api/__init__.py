"""What a user calls: docstrings and delegation only.

``belljar.run`` and ``belljar.close`` come from here by way of the package's own lazy names;
nothing is imported at this level, so that the command can start a zygote before it loads
the rest.
"""
