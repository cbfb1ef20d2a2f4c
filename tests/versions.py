"""Run the tests that touch Lightning on other versions of it.

python tests/versions.py [NAME ...] [-- pytest arguments]

Each version is laid over the environment that runs this (in .versions/), so that torch is installed once.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OVERLAYS = ROOT / ".versions"
# Lightning before 2.4 imports pkg_resources, before 2.5.1 it pops a list that rich 14.1 and later keep empty.
OLD = ["setuptools<81", "rich<14"]
VERSIONS = {
    "2.2": ["pytorch-lightning==2.2.5", *OLD],
    "2.3": ["pytorch-lightning==2.3.3", *OLD],
    "2.4": ["pytorch-lightning==2.4.0", *OLD],
    "2.5.0": ["pytorch-lightning==2.5.0.post0", *OLD],
    "2.5": ["pytorch-lightning==2.5.6"],
    "2.6": ["pytorch-lightning==2.6.6"],
    "lightning": ["lightning==2.6.6"],
}
SUBSET = [
    "tests/test_lightning_names.py",
    "tests/run/test_round_equals_fit.py",
    "tests/run/test_run.py",
    "tests/test_bad_input.py",
    "tests/stopping/test_stopping.py",
    "tests/cli/test_fit_command.py",
    "tests/run/test_callbacks_and_loggers.py",
    "tests/history/test_journal.py",
    "tests/run/test_resume.py",
]
# of the processes that are killed only a few: the others differ in our own code, not in Lightning's
KILLED = "not killed or batch:1:2 or validation or epoch_end or sigterm"


def overlay(name: str) -> Path:
    folder = OVERLAYS / name
    done = folder / ".done"
    if not done.exists() or done.read_text() != "\n".join(VERSIONS[name]):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--upgrade", "--target", folder, *VERSIONS[name]], check=True)
        done.write_text("\n".join(VERSIONS[name]))
    return folder


def main() -> int:
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    names, extra = arguments[:cut] or list(VERSIONS), arguments[cut + 1 :]
    unknown = set(names) - set(VERSIONS)
    if unknown:
        sys.exit(f"Unknown: {', '.join(sorted(unknown))}. Known: {', '.join(VERSIONS)}.")
    failed = []
    for name in names:
        print(f"==> {VERSIONS[name][0]}", flush=True)
        namespace = "lightning.pytorch" if name == "lightning" else "pytorch_lightning"
        path = os.pathsep.join([str(overlay(name)), str(ROOT)])
        environment = {**os.environ, "PYTHONPATH": path, "LIGHTNING_DIFFAL_NAMESPACE": namespace}
        command = [sys.executable, "-m", "pytest", *SUBSET, "-k", KILLED, "-p", "no:cacheprovider", *extra]
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            failed.append(name)
    print("All versions passed." if not failed else f"Failed: {', '.join(failed)}.")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
