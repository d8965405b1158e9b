"""Small real file systems for data directories: a tmpfs of some MiB for each node, which can grow while that runs.

Root mounts them where the tests can see them. Anybody else starts each node in a user and a mount namespace of its
own, where the kernel allows that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.functional.processes import Node

_SECONDS = 10


class NoSmallDisk(Exception):
    """This machine lets us have none; the message says why."""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        raise NoSmallDisk(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


def require_small_disks(folder: Path) -> None:
    """Find out whether small disks can be had.

    :raises NoSmallDisk: they cannot.
    """
    if not sys.platform.startswith("linux"):
        raise NoSmallDisk("a tmpfs needs Linux")
    probe = folder / "probe"
    probe.mkdir()
    if os.geteuid() == 0:
        _run("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(probe))
        _run("umount", str(probe))
    else:
        _run("unshare", "-Urm", "mount", "-t", "tmpfs", "-o", "size=64k", "none", str(probe))


class SmallDisk:
    """The data directory of one node, on a file system of its own; made before the node is started."""

    def __init__(self, node: Node, size: str) -> None:
        """
        :param size: as tmpfs takes it, such as ``"3m"``.
        """
        self._node = node
        self._mounted = False
        node.data_dir.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(node.data_dir)]
        if os.geteuid() == 0:
            _run(*mount)
            self._mounted = True
        else:
            node.wrapper = ("unshare", "-Urm", "sh", "-c", f'{" ".join(mount)} && exec "$@"', "sh")

    def resize(self, size: str) -> None:
        """Make it larger, or smaller than what is on it, which leaves no room at all."""
        remount = ["mount", "-o", f"remount,size={size}", str(self._node.data_dir)]
        if not self._mounted:
            process = self._node.process
            if process is None:
                raise AssertionError("the disk is gone with its node")
            remount = ["nsenter", "--preserve-credentials", "-U", "-m", "-t", str(process.pid), *remount]
        _run(*remount)

    def remove(self) -> None:
        """Unmount it; the node must be dead."""
        if self._mounted:
            _run("umount", str(self._node.data_dir))
            self._mounted = False
