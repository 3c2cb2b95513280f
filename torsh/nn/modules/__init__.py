"""The modules of torsh.nn, one family per file."""
