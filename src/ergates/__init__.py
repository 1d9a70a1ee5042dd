"""Ergates runs heaps of work on whatever machines you have, inside the limits you set, and tells what each task cost."""

__version__ = "0.1.0"
