"""A 2 GB shard of 20,000 books into MyBookshelf2, against extracting it; and a second time."""

import subprocess
import sys
import time

from rich.console import Console

from benchmarks.calibre import Side
from benchmarks.measure import DATA, Result, run_process, scaled
from bookpipe.demo.embedded_server import start_server
from bookpipe.demo.tar_shards import make_bench_shard

MEMBERS = 20_000
MEMBER_BYTES = 100_000


def timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def run(console: Console) -> dict[str, Result]:
    """All of `tars.*`. The limit, `tar -xf` to the same disk, neither hashes nor types nor reads metadata nor writes
    a database."""
    members = scaled(MEMBERS)
    DATA.mkdir(exist_ok=True)
    shard = DATA / f"shard-{members}.tar"
    if not shard.exists():
        console.print(f"Making a shard of {members:,} books (kept in {shard}) ...")
        make_bench_shard(shard, members, MEMBER_BYTES)
    megabytes = shard.stat().st_size / 1e6
    folder = DATA / f"run-{int(time.time())}"
    side = Side("tars", folder, start_server(DATA / "server").superuser_url)
    command = [sys.executable, "-m", "benchmarks.tars_load", str(shard), str(side.home / "state.sqlite")]
    extracted = folder / "extracted"
    extracted.mkdir()

    cat_s = timed(["cat", str(shard)])  # also: both sides find the shard in memory
    console.print("tars.load: one process ...")
    load_s, load_mb, _ = run_process(command, side.environment(shard))
    cat_s = min(cat_s, timed(["cat", str(shard)]))
    console.print("The limit: tar -xf ...")
    limit_s = timed(["tar", "-xf", str(shard), "-C", str(extracted)])
    sha_s = timed(["sh", "-c", f"sha1sum '{shard}' & sha1sum '{shard}'; wait"])
    console.print("tars.rerun: the same again ...")
    rerun_s, rerun_mb, _ = run_process(command, side.environment(shard))
    speeds = (
        f"{megabytes / load_s:,.0f} MB/s; cat {megabytes / cat_s:,.0f} MB/s, two sha1sum "
        f"{2 * megabytes / sha_s:,.0f} MB/s, tar -xf {megabytes / limit_s:,.0f} MB/s"
    )
    return {
        "tars.load": Result(load_s, limit_s, 1.2, load_mb, speeds),
        "tars.rerun": Result(rerun_s, load_s, 0.05, rerun_mb, "against the first load"),
    }
