"""A node of a Ray cluster elsewhere, on this machine: a process talks to a cluster only through a node beside it.

``python -m workers.cluster_node PARENT ADDRESS OBJECT_STORE_BYTES`` runs a node without CPUs, so that no trials come
here, until it is told to stop, the cluster is gone or the process that started it is.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from workers.parent import end_with

_RAYLET = "raylet"
_HEAD_FLAG = "--gcs-address="
ENDING_S = 8.0


def is_here(address: str) -> bool:
    """Whether a node of the cluster at an address runs on this machine, as far as this process can see.

    Told by the port of its head: hosts have several names and addresses. A mere word leaves the choice to Ray.
    """
    port = address.rpartition(":")[2]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            program, *arguments = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended meanwhile
            continue
        if program.rpartition("/")[2] == _RAYLET and (
            not port.isdigit() or any(each.startswith(_HEAD_FLAG) and each.endswith(f":{port}") for each in arguments)
        ):
            return True
    return not Path("/proc").exists()


def start(address: str, *, object_store_bytes: int) -> subprocess.Popen[bytes]:
    """Start a node; it inherits the environment and ends with the thread that calls this."""
    # A session of its own: a Ctrl-C is for the service, which then ends the node in order.
    arguments = [sys.executable, "-m", __name__, str(os.getpid()), address, str(object_store_bytes)]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, start_new_session=True)


def stop(node: subprocess.Popen[bytes]) -> None:
    """End a node."""
    node.terminate()
    try:
        node.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()


def main() -> None:
    """Become a node."""
    parent, address, object_store_bytes = sys.argv[1:]
    end_with(int(parent), by=signal.SIGTERM)
    from ray.scripts.scripts import start as ray_start

    flags = ("--num-cpus=0", "--num-gpus=0", "--disable-usage-stats", "--block")
    ray_start([f"--address={address}", f"--object-store-memory={object_store_bytes}", *flags])


if __name__ == "__main__":
    main()
