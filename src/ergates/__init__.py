"""Ergates runs heaps of work on whatever machines you have, inside the limits you set, and tells what each task cost."""

__version__ = "0.1.0"

_LAZY = {
    "map": ("ergates.functions.parallel_map", "parallel_map"),
    "ClusterExecutor": ("ergates.functions.cluster_executor", "ClusterExecutor"),
    "open_experiment": ("ergates.conductor.finished_experiment", "open_experiment"),
    "Executor": ("ergates.functions.executor", "Executor"),
}


def __getattr__(name: str) -> object:
    """Load what is asked for when it is asked for: `import ergates` itself takes a millisecond."""
    if name not in _LAZY:
        raise AttributeError(f"module 'ergates' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)
