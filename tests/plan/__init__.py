"""Plans: pure, so every machine there is can be tried on this one."""
