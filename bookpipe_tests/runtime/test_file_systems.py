"""A path's file system is told by the mounts."""

from pathlib import Path

import pytest

from bookpipe.runtime import file_systems
from bookpipe.runtime.file_systems import Mount, mount_of

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/export /mnt/media nfs4 rw 0 0
/dev/sdb1 /mnt/media/local ext4 rw 0 0
user@host: /home/me/ssh\\040folder fuse.sshfs rw 0 0
host /mnt/c 9p rw 0 0
shared /srv/shared virtiofs rw 0 0
/dev/sdb1 /mnt/again ext4 rw 0 0
//server/share /mnt/again cifs rw 0 0
pool /mnt/media2 zfs rw 0 0
grpcfuse /grpc fuse.grpcfuse rw 0 0
portal /mnt/portal fuse.portal rw 0 0
broken line
"""


@pytest.mark.parametrize(
    ("path", "point", "kind", "network"),
    [
        ("/", "/", "ext4", False),
        ("/srv/books", "/", "ext4", False),
        ("/mnt/media", "/mnt/media", "nfs4", True),
        ("/mnt/media/a/b", "/mnt/media", "nfs4", True),
        ("/mnt/media/local/a", "/mnt/media/local", "ext4", False),
        ("/mnt/media2/a", "/mnt/media2", "zfs", False),
        ("/mnt/media3", "/", "ext4", False),
        ("/home/me/ssh folder/a", "/home/me/ssh folder", "fuse.sshfs", True),
        ("/mnt/c/a", "/mnt/c", "9p", True),
        ("/srv/shared/a", "/srv/shared", "virtiofs", True),
        ("/mnt/again/a", "/mnt/again", "cifs", True),
        ("/grpc/x/y", "/grpc", "fuse.grpcfuse", True),
        ("/mnt/portal/a", "/mnt/portal", "fuse.portal", False),
    ],
)
def test_the_longest_and_last_mount_holds_a_path(
    path: str, point: str, kind: str, network: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    monkeypatch.setattr(file_systems, "MOUNTS", tmp_path / "mounts")
    found = mount_of(Path(path))
    assert found == Mount(point, kind)
    assert found.is_network is network


def test_without_mounts_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems, "MOUNTS", tmp_path / "mounts")
    assert mount_of(tmp_path) is None
