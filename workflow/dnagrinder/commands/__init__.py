"""The command line, one module a room: each command parses, calls one library function and reports."""
