"""Running what is measured in a process of its own, and keeping the results."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

RESULTS = Path(__file__).with_name("results.json")
DATA = Path(__file__).with_name("data")
PEAK_MB = 400  # of any process, however large the collection


@dataclass(frozen=True)
class Result:
    """One measurement: seconds of ours and of the limit, their ratio, the ratio to reach, and peak memory."""

    ours_s: float
    limit_s: float
    goal: float
    peak_rss_mb: float | None = None
    detail: str = ""

    @property
    def ratio(self) -> float:
        return self.ours_s / self.limit_s if self.limit_s else float("inf")

    @property
    def missed(self) -> bool:
        return self.ratio > self.goal or (self.peak_rss_mb or 0) > PEAK_MB

    def to_json(self) -> dict[str, object]:
        return {
            **{name: round(v, 3) if isinstance(v, float) else v for name, v in asdict(self).items()},
            "ratio": round(self.ratio, 3),
        }


def scaled(n: int) -> int:
    """`n`, or the part of it that BENCH_SCALE asks for."""
    return max(1_000, int(n * float(os.environ.get("BENCH_SCALE", "1"))))


def run_process(
    command: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[float, float, str]:
    """(seconds from start to end, peak resident MB of the largest process of its tree, output) of a command."""
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, cwd=cwd, stdout=output, stderr=subprocess.STDOUT
        )
        peak = 0
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                for one in [watched, *watched.children(recursive=True)]:
                    peak = max(peak, one.memory_info().rss)
            except psutil.Error:
                pass
            time.sleep(0.05)
        seconds = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if process.returncode:
        sys.stderr.write(text)
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return seconds, peak / 2**20, text


def save(results: Mapping[str, Result]) -> None:
    """Results of this run over those of earlier ones."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known.update({name: result.to_json() for name, result in results.items()})
    RESULTS.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")
