"""joblib on Ergates: scikit-learn and others that use joblib run on our worker processes, or on a cluster's workers.

    from ergates.functions.joblib_backend import register
    register()
    with joblib.parallel_config("ergates", store=".ergates/store.toml"):
        joblib.Parallel()(joblib.delayed(fit)(x) for x in data)

Without `store` the calls run in warm processes of this machine (`ergates.Executor`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import register_parallel_backend  # type: ignore[import-untyped]
from joblib.parallel import (  # type: ignore[import-untyped]
    AutoBatchingMixin,
    ParallelBackendBase,
    SequentialBackend,
)

from ergates.functions.cluster_executor import ClusterExecutor
from ergates.functions.executor import Executor
from ergates.functions.options import workers_for

NAME = "ergates"


def register() -> None:
    """Make `joblib.parallel_config("ergates", ...)` known."""
    register_parallel_backend(NAME, ErgatesBackend)


def run_batch(batch: Callable[[], Any]) -> Any:
    """What a worker process calls: joblib's batch carries its functions and arguments."""
    return batch()


class ErgatesBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """A joblib backend; options are those of `ergates.Executor`, or with `store` of `ergates.ClusterExecutor`."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = False
    uses_threads = False
    default_n_jobs = -1

    def __init__(self, store: str | None = None, nesting_level: int | None = None, **options: Any) -> None:
        super().__init__(nesting_level=nesting_level)
        self._store, self._options = store, options
        self._executor: Executor | ClusterExecutor | None = None
        self._running: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """As many as asked for; -1: as many as the workers' cores (or this machine's) admit."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is not None and n_jobs > 0:
            return n_jobs
        if self._store is not None:
            return self._cluster().workers
        return workers_for(None, self._options.get("cpus", 1), self._options.get("memory"))

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_kwargs: Any) -> int:
        """Get ready for one call of Parallel; the processes of an earlier one are used again."""
        self.parallel = parallel
        workers: int = self.effective_n_jobs(n_jobs)
        if self._store is None and (self._executor is None or getattr(self._executor, "workers", 0) != workers):
            self.terminate()
            self._executor = Executor(workers, **self._options)
        return workers

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], None] | None = None) -> Future[Any]:
        """See joblib's ParallelBackendBase."""
        executor = self._executor if self._store is None else self._cluster()
        assert executor is not None, "joblib calls configure first"
        future: Future[Any] = executor.submit(run_batch, func)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """What the batch returned, or raises what it raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002 - of joblib's signature
        """Cancel what has not been sent; what runs may end."""
        for future in tuple(self._running):
            future.cancel()

    def terminate(self) -> None:
        """End the processes, or close the job on the cluster."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    def get_nested_backend(self) -> tuple[Any, None]:
        """Calls inside of calls run one after another: the cores are taken."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def _cluster(self) -> ClusterExecutor:
        if not isinstance(self._executor, ClusterExecutor):
            assert self._store is not None
            self._executor = ClusterExecutor(self._store, name="joblib", **self._options)
        return self._executor
