"""Policy x support -> plan: what to do here, decided in pure code.

``make.make_plan`` is the only decision; ``zygote.launcher`` and ``confine`` carry the steps
out without looking at a policy; ``explain`` prints a plan for people.

Nothing is imported here, because the zygote takes one table of constants from this package
and would pay two milliseconds of its start for the rest.
"""
