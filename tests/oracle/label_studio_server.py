"""A real Label Studio on this machine, for the tests in `test_label_studio_server.py`, and what is recorded from one.

From nothing, with a Python of 3.10 or newer:

    python -m venv /tmp/label-studio && /tmp/label-studio/bin/pip install label-studio==1.23.2
    pip install -e '.[dev,label-studio]'
    export LABEL_STUDIO_BIN=/tmp/label-studio/bin/label-studio
    pytest -m slow tests/test_label_studio_server.py
    python tests/oracle/label_studio_server.py tests/oracle/label_studio_exports  # records exports

The server has its own environment, since it pins many packages. It listens on 127.0.0.1 only, keeps everything in a
folder that is thrown away, and is asked to send no statistics.
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

CHOICES = ["cat", "dog", "bird"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, folder, binary):
        self.folder, self.binary, self.port = Path(folder), binary, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = secrets.token_hex(20)
        self.process = None

    def start(self):
        own = {
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.folder),
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "COLLECT_ANALYTICS": "False",
            "LATEST_VERSION_CHECK": "False",
            "SENTRY_DSN": "",
        }
        environment = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "LABEL_STUDIO_API_KEY")} | own
        command = [self.binary, "start", "--internal-host", "127.0.0.1", "--port", str(self.port), "--no-browser"]
        user = ["--username", "a@example.com", "--password", secrets.token_hex(8), "--user-token", self.key]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *user], env=environment, stdout=log, stderr=log, start_new_session=True, cwd=self.folder
            )
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=2) as reply:
                if reply.status == 200:
                    return self
            if self.process.poll() is not None:
                break
            time.sleep(1)
        raise RuntimeError((self.folder / "server.log").read_text()[-3000:])

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def client(self, key=None):
        from label_studio_sdk import LabelStudio

        return LabelStudio(base_url=self.url, api_key=key or self.key)

    def ids(self, project):
        """Numbers of the tasks by our id; each once."""
        tasks = [(t.data["diffal_id"], t.id) for t in self.client().tasks.list(project=project)]
        assert len(dict(tasks)) == len(tasks), "a task was imported twice"
        return dict(tasks)

    def annotate(self, task, *choices, shown="text", **more):
        result = [{"from_name": "label", "to_name": shown, "type": "choices", "value": {"choices": list(choices)}}]
        return self.client().annotations.create(id=task, result=result if choices else [], **more).id

    def change(self, annotation, *choices, shown="text"):
        result = [{"from_name": "label", "to_name": shown, "type": "choices", "value": {"choices": list(choices)}}]
        self.client().annotations.update(id=annotation, result=result)

    def export(self, project, kind):
        return b"".join(self.client().projects.exports.download_sync(project, export_type=kind))


def record(server, folder):
    """Exports of a project with every kind of annotation: what the default tests read."""
    import numpy as np

    from lightning_diffal import ActiveDataModule, Query
    from lightning_diffal.oracle import LabelStudioOracle, Question, label_config

    for multiple in (False, True):
        name = "several" if multiple else "single"
        data = ActiveDataModule([f"text {i}" for i in range(12)], initial_labels={0: 1}, class_names=CHOICES)
        with tempfile.TemporaryDirectory() as own:
            oracle = LabelStudioOracle(own, multilabel=multiple)
            asked = np.array([7, 3, 11, 4, 9, 2])
            details = {"predicted": np.array([1, 0, 2, -1, 0, 1]), "margin": np.full(6, 0.1), "reach": np.full(6, 0.2)}
            oracle.ask(Question(Query(asked, np.ones(6), details), asked, 0, "a-run"), data)
            tasks = json.loads(Path(own, "tasks-round-000.json").read_text())
        config = label_config(CHOICES, "text", multilabel=multiple)
        client = server.client()
        project = client.projects.create(title=f"recorded {name}", label_config=config).id
        client.projects.import_tasks(project, request=tasks)
        ids = server.ids(project)
        server.annotate(ids["7"], "dog")
        server.annotate(ids["3"], *(["cat", "bird"] if multiple else ["cat"]))
        server.annotate(ids["11"], was_cancelled=True)
        server.annotate(ids["4"], "dog")
        server.annotate(ids["4"], "bird", ground_truth=True)
        changed = server.annotate(ids["9"], "cat")
        server.change(changed, "dog")
        if multiple:
            server.annotate(ids["2"])  # none of the classes
        for kind in ("JSON", "JSON_MIN"):
            content = json.loads(server.export(project, kind))
            (folder / f"{name}-{kind.lower()}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    with tempfile.TemporaryDirectory() as place:
        server = Server(place, os.environ["LABEL_STUDIO_BIN"])
        try:
            record(server.start(), Path(sys.argv[1]))
        finally:
            server.stop()
