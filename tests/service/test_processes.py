import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from service.processes import Supervised
from tests.service.api.conftest import wait_until

CHILD = "import time; from service.processes import die_with_parent; die_with_parent(); time.sleep(60)"


def gone(pid: int) -> bool:
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def test_a_child_that_dies_is_started_again_and_ended_with_the_service() -> None:
    child = Supervised([sys.executable, "-c", CHILD], os.environ)
    child.start()
    wait_until(lambda: child.pid is not None)
    first = child.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)
    wait_until(lambda: child.pid not in (None, first))
    second = child.pid
    assert second is not None
    child.stop()

    assert gone(first)
    assert gone(second)


def test_a_child_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "program"
    child = Supervised([str(program)], os.environ)
    child.start()
    time.sleep(0.2)
    (tmp_path / "written").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "written").chmod(0o755)

    (tmp_path / "written").rename(program)
    wait_until(lambda: child.pid is not None)

    started = child.pid
    assert started is not None
    child.stop()
    assert gone(started)


def test_a_child_dies_with_a_service_that_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    service = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time; from service.processes import Supervised\n"
            f"child = Supervised([sys.executable, '-c', {CHILD!r}], os.environ)\n"
            "child.start()\n"
            "while child.pid is None: time.sleep(0.01)\n"
            "time.sleep(1)\n"  # until the child has told the kernel
            f"open({str(told)!r}, 'w').write(str(child.pid)); time.sleep(60)",
        ]
    )
    wait_until(lambda: told.exists() and told.read_text() != "")
    child = int(told.read_text())
    assert not gone(child)

    service.kill()
    service.wait()

    wait_until(lambda: gone(child), seconds=5)
