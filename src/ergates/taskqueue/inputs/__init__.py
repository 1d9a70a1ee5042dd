"""What goes in: from a user's files, templates and tables to tasks. `source.py` is the one door."""
