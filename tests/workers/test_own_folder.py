import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workers.own_folder import own_folder

WORKS_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from workers.own_folder import own_folder
with own_folder(Path(sys.argv[1]), "job") as folder:
    (folder / "reached").write_text("epoch 2")
    print(folder.name, flush=True)
    time.sleep(60)
"""


def test_two_that_work_at_once_have_a_folder_each(tmp_path: Path) -> None:
    with own_folder(tmp_path, "job") as first, own_folder(tmp_path, "job") as second:
        (first / "reached").write_text("epoch 1")

        assert first != second
        assert list(second.iterdir()) == []

    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_process_was_killed_is_found_again_with_what_is_in_it(tmp_path: Path) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKS_UNTIL_KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    name = worker.stdout.readline().decode().strip()
    with own_folder(tmp_path, "job") as meanwhile:
        assert meanwhile.name != name
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()

    with own_folder(tmp_path, "job") as folder:
        assert folder.name == name
        assert (folder / "reached").read_text() == "epoch 2"


def test_what_an_exception_left_is_kept_for_the_next_try(tmp_path: Path) -> None:
    def fail_after_an_epoch() -> None:
        with own_folder(tmp_path, "job") as folder:
            (folder / "reached").write_text("epoch 1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_an_epoch()

    with own_folder(tmp_path, "job") as folder:
        assert (folder / "reached").read_text() == "epoch 1"
