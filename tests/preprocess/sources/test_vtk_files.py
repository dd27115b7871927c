"""What VTK only reports, or crashes on, is refused: in a process of its own, as a crash takes the whole one down."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CUT_SHORT = """
import resource, sys
from pathlib import Path
from preprocess.sources import open_source
from tests.preprocess.sources.meshes import plane, with_data
from ups_data.errors import UpsDataError

resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
folder, refused, read = Path(sys.argv[1]), 0, 0
for suffix, binary in (("vtu", True), ("vtu", False), ("vtk", True), ("vtk", False)):
    path = folder / f"a.{suffix}"
    with_data(plane()).save(path, binary=binary)
    content = path.read_bytes()
    for kept in range(len(content) - 8, 0, -9):
        path.write_bytes(content[:kept])
        try:
            source = open_source([path], "vtk", {"fields": ["p", "U"]})
            source.read_frames(0, 0, 1), source.read_measures(0), source.read_mesh(0)
            read += 1
        except UpsDataError as error:
            assert path.name in str(error), error
            refused += 1
print(refused, read)
"""


def test_files_cut_short_anywhere_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CUT_SHORT, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    refused, read = map(int, result.stdout.split())
    assert (refused > 400, read) == (True, 0)
