"""Carry out the tasks of a conversion: importance, pages and statistics of trajectories, and whole shards.

A task reads the source and what earlier tasks left in the conversion's folder, writes files there, and notes each in
the ledger once it is in place. It shares no memory with other tasks, so any process may carry it out, at any time after
those that it builds upon, and twice.

Memory of one process does not grow with the number of frames or trajectories. It is about 100 MB for Python and its
libraries; a chunk of frames twice, as the source gives it and as it is stored (256 MiB each, or one frame where that is
larger); a MiB of rows of each array, or a row that is larger; and while a trajectory is laid out, importance, order
and pages: with the default recipe and one channel of float32 about 30 bytes a point on grids and 40 on clouds, and 24
for each further channel (`scripts/study_memory.py`). Clouds take up to a GiB more for what is made ready of the
neighbourhoods of their points once (of larger ones it lies in a temporary file), and those of longitudes and latitudes
24 bytes a point for their places on a sphere.

    bench     what every task needs
    ground    what of a trajectory does not depend on its fields: geometry, order, measures
    frames    its frames, checked, in chunks
    measure   importance of its blocks, and statistics, in one pass over them
    laid      what is known of it once its pages are dealt
    rows      its pages and dense frames, as rows of shards
    commit    files in place, noted in the ledger
    worker    the tasks
"""

from preprocess.tasks.bench import Workbench
from preprocess.tasks.laid import Laid, grid_key
from preprocess.tasks.worker import TaskResult, Worker

__all__ = ["Laid", "TaskResult", "Workbench", "Worker", "grid_key"]
