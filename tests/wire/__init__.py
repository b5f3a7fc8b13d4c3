"""Tests of the wire: pure, no process, no socket, no clock."""
