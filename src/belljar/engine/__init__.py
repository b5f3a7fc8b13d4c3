"""The life of workers and runs: events in, instructions out.  Pure."""
