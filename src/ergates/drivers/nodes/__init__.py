"""Settings of a node that measurements depend on: read, changed one by one with a journal, and put back."""
