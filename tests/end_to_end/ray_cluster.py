"""A real Ray cluster of several nodes on this machine, each of which can be killed."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.service_process import descendants, wait_for

OBJECT_STORE_BYTES = 128 * 2**20
RAYLET = "raylet/raylet"


class RayNode:
    """``ray start --block``, and what it has started."""

    def __init__(self, flags: Sequence[str], settings: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *flags, "--block", "--disable-usage-stats"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **settings}
        self._process = subprocess.Popen(
            [*command, f"--object-store-memory={OBJECT_STORE_BYTES}"], stdout=subprocess.DEVNULL, env=environment
        )
        wait_for(lambda: self._process.poll() is not None or RAYLET in self.commands())
        assert self._process.poll() is None, "the node did not start"

    def commands(self) -> str:
        """Return the command lines of its processes; Ray names workers by what they do."""
        return "\n".join(descendants(self._process.pid).values())

    def kill_raylet(self) -> None:
        """Kill the process that is the node to all others."""
        for pid, command in descendants(self._process.pid).items():
            if RAYLET in command:
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def kill(self) -> None:
        """Kill all its processes, as a power cut would."""
        for pid in (self._process.pid, *descendants(self._process.pid)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()


class RayCluster:
    """A head and its nodes: where they answer stays the same, whoever is there."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        """The variables that let a process in."""
        self._folder = folder
        self.nodes: list[RayNode] = []

    def start_head(self, *, cpus: int) -> RayNode:
        """Start a head at the cluster's address, with CPUs of its own."""
        host, _, port = self.address.partition(":")
        flags = ("--head", f"--port={port}", f"--node-ip-address={host}", f"--temp-dir={self._folder / 'ray'}")
        return self._start(*flags, "--include-dashboard=false", f"--num-cpus={cpus}")

    def start_node(self, ip_address: str, *, cpus: int) -> RayNode:
        """Start another node."""
        return self._start(f"--address={self.address}", f"--node-ip-address={ip_address}", f"--num-cpus={cpus}")

    def end(self) -> None:
        """Kill what is left."""
        for node in self.nodes:
            node.kill()

    def _start(self, *flags: str) -> RayNode:
        self.nodes.append(RayNode(flags, self.settings))
        return self.nodes[-1]


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Give a cluster without nodes; what was started ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="tf-", dir="/tmp"))  # names of sockets must be short
    cluster = RayCluster(folder)
    try:
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)
