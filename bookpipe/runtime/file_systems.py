"""Which file system a path is on, and which kinds cross a network."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/mounts")

# File systems whose other users do not share memory with us: other machines, or the host of a virtual machine.
# /proc/mounts puts "fuse." before some.
_NETWORK = frozenset(
    {
        *("9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "davfs2", "fakeowner", "gfs", "gfs2"),
        *("glusterfs", "grpcfuse", "gvfsd-fuse", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "osxfs", "prl_fs"),
        *("rclone", "s3fs", "smb2", "smb3", "smbfs", "sshfs", "vboxsf", "virtiofs", "vmhgfs", "vmhgfs-fuse"),
    }
)


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a file system is mounted, and its kind as /proc/mounts names it."""

    point: str
    kind: str

    @property
    def is_network(self) -> bool:
        return self.kind.removeprefix("fuse.") in _NETWORK


def mount_of(path: Path) -> Mount | None:
    """The mount that a path is on, links resolved. None where that cannot be seen: only Linux has /proc/mounts.

    The longest mount point wins, and of equal ones the last, which hides those before it.
    """
    try:
        mounts = MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    real = os.path.realpath(path)
    found = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # Blanks, tabs, newlines and backslashes are written as octal numbers.
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and (found is None or len(point) >= len(found.point)):
            found = Mount(point, fields[2])
    return found
