"""The parent process: listening sockets, workers, admin listener, embedded Postgres."""
