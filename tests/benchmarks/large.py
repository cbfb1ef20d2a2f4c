"""`diffal select` on embeddings larger than memory: time of each stage, peak of memory, kill and go on.

    python tests/benchmarks/large.py --points 10000000 --folder /data/large

makes 7.7 GB of embeddings (`--points` x 384, float16) and selects 1,000 of them in a process of its own, whose time (of
the clock, and of processors) and memory are watched: what it holds itself (`anonymous`), and with the pages of files
that the system can take back at any time (`resident`). With `--kill-at "searching neighbours"` the process is killed
half a minute into that stage, and begun again with the same folder; the picks must be those of a run that nobody
killed (`--again`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

DIMENSIONS = 384
TOPICS = 20_000


def make(path: Path, n_points: int) -> None:
    """Sentence embeddings by their statistics: topics within themes, a falling spectrum, unit length."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, DIMENSIONS + 1, dtype=np.float32) ** -0.5
    themes = rng.standard_normal((200, DIMENSIONS), np.float32)
    topics = themes[rng.integers(len(themes), size=TOPICS)] + rng.standard_normal((TOPICS, DIMENSIONS), np.float32)
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n_points, DIMENSIONS))
    for start in range(0, n_points, 2**16):
        size = min(2**16, n_points - start)
        block = topics[rng.integers(TOPICS, size=size)] + rng.standard_normal((size, DIMENSIONS), np.float32)
        block *= spectrum
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        rows[start : start + size] = block
    rows.flush()


def memory(pid: int) -> tuple[int, int]:
    """Bytes that a process holds: all that is resident, and what is no page of a file."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = {name: int(kilobytes) * 1024 for name, kilobytes in re.findall(r"(Rss\w+|VmRSS):\s+(\d+) kB", status)}
    return found["VmRSS"], found["RssAnon"]


def processors(pid: int) -> float:
    """Seconds of processors that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def select(features: Path, work: Path, out: Path, picks: int, kill_at: str | None) -> bool:
    """Run it to the end, or until it is killed; whether it came to the end."""
    command = [sys.executable, "-m", "lightning_diffal", "select", "--features", str(features), "-n", str(picks)]
    log = out.with_suffix(".log")
    with log.open("wb") as written:
        started = time.monotonic()
        process = subprocess.Popen([*command, "--work", str(work), "--out", str(out)], stderr=written)
        stage, since, resident, anonymous, spent = "", started, 0, 0, 0.0
        while process.poll() is None:
            time.sleep(0.2)
            try:
                now, spent = memory(process.pid), processors(process.pid)
            except (OSError, KeyError):  # it has just ended
                continue
            resident, anonymous = max(resident, now[0]), max(anonymous, now[1])
            bars = re.findall(r"(?:^|[\r\n])([a-z][^:\r\n]*): +\d+%", log.read_text(errors="replace"))
            if bars and bars[-1] != stage:
                clocks = f"{time.monotonic() - started:7.0f} s, {spent:6.0f} s of processors"
                print(f"{clocks}  {stage or 'reading'} done; {bars[-1]}", flush=True)
                stage, since = bars[-1], time.monotonic()
            if kill_at is not None and stage == kill_at and time.monotonic() > since + 30:
                process.send_signal(signal.SIGKILL)
                process.wait()
                print(f"{time.monotonic() - started:7.0f} s  killed in: {stage}", flush=True)
                return False
    print(
        f"{time.monotonic() - started:7.0f} s, {spent:6.0f} s of processors  ended with {process.returncode}; "
        f"peak: anonymous {anonymous / 2**30:.2f} GiB, resident {resident / 2**30:.2f} GiB; "
        f"picks {hashlib.blake2b(out.read_bytes(), digest_size=4).hexdigest()}",
        flush=True,
    )
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--picks", type=int, default=1000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kill-at", metavar="STAGE")
    parser.add_argument("--again", action="store_true", help="afterwards once more, from the beginning and unharmed")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    features = options.folder / f"embeddings-{options.points}.npy"
    if not features.exists():
        make(features, options.points)
    work, out = options.folder / "work", options.folder / "query.csv"
    if not select(features, work, out, options.picks, options.kill_at):
        select(features, work, out, options.picks, None)
    if options.again:
        select(features, options.folder / "work-again", options.folder / "query-again.csv", options.picks, None)


if __name__ == "__main__":
    main()
