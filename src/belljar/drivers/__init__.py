"""The only I/O on the host: processes, sockets, pipes and clocks."""
