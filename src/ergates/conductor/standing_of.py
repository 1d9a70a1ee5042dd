"""How an experiment stands, for who asks while it runs, after it, after a crash: one small file, and a count of manifests."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from ergates.conductor.experiment_folder import STANDING, ExperimentFolder
from ergates.conductor.standing import FailedRun, Standing, run_name


def standing_of(folder: ExperimentFolder) -> Standing:
    """As whoever conducts wrote it a moment ago; when nobody does, what lies in the folder counts.

    Raises:
        UsageError: it is no folder of an experiment.
    """
    said = _said(folder)
    if folder.conductor() is not None and said is not None:
        return said
    runs = folder.runs()
    finished = [run for run in runs if folder.is_finished(run)]
    known = {failed.number: failed for failed in (said.failed if said is not None else ())}
    fresh = {run.number for run in finished}
    if said is None or said.ended != len(finished):  # whoever wrote it was killed before it wrote the last one down
        known = {}
        for run in finished:
            manifest = folder.manifest(run)
            if not manifest.ok:
                known[run.number] = FailedRun(number=run.number, name=run_name(run), problem=manifest.problem)
    failed = tuple(known[number] for number in sorted(known) if number in fresh)
    base = said or Standing(name=folder.experiment().name, total=len(runs), finished=0)
    return replace(base, total=len(runs), finished=len(finished) - len(failed), failed=failed, running=(), left_ns=None)


def _said(folder: ExperimentFolder) -> Standing | None:
    try:
        return msgspec.json.decode((folder.path / STANDING).read_bytes(), type=Standing)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
