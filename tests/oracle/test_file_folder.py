"""The folder of query files, and the arguments of FileOracle."""

import pickle

import pytest

from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.oracle import FileOracle
from tests.helpers_data import points
from tests.oracle.test_file_oracle import make_data, question


class TestFolder:
    """One folder, one run."""

    def test_in_the_folder_of_the_run(self, tmp_path):
        oracle = FileOracle()
        oracle.prepare(make_data(), tmp_path / "run", "a1")
        oracle.ask(question(), make_data())
        assert (tmp_path / "run" / "queries" / "query-000.csv").exists()
        oracle.prepare(make_data(), tmp_path / "run", "a1")

    def test_of_another_run_is_refused(self, tmp_path):
        FileOracle(tmp_path).prepare(make_data(), tmp_path / "run", "a1")
        with pytest.raises(ConfigurationError, match=r"holds the queries of run a1, and this is run b2"):
            FileOracle(tmp_path).prepare(make_data(), tmp_path / "run", "b2")
        (tmp_path / "run.txt").unlink()
        (tmp_path / "query-000.csv").write_text("id,label\n")
        with pytest.raises(ConfigurationError, match=r"a run that .*run.txt does not name, and this is run b2"):
            FileOracle(tmp_path).prepare(make_data(), None, "b2")

    def test_none_is_refused_before_anything_trains(self):
        with pytest.raises(ConfigurationError, match=r"give `FileOracle\(folder=...\)`"):
            FileOracle().prepare(make_data(), None, None)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"folder": 3}, InvalidTypeError, "`folder`"),
        ({"format": "xlsx"}, ConfigurationError, "`format`"),
        ({"timeout": -1}, ConfigurationError, "`timeout`"),
        ({"timeout": float("nan")}, ConfigurationError, "`timeout`"),
        ({"timeout": "5"}, ConfigurationError, "`timeout`"),
        ({"poll_seconds": 0}, ConfigurationError, "`poll_seconds`"),
        ({"poll_seconds": None}, ConfigurationError, "`poll_seconds`"),
        ({"cannot_tell": "skip"}, ConfigurationError, "`cannot_tell`"),
        ({"cannot_tell": [""]}, ConfigurationError, "`cannot_tell`"),
        ({"encoding": "utf-9"}, ConfigurationError, "`encoding`"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        FileOracle(**arguments)


def test_is_picklable(tmp_path):
    oracle = pickle.loads(pickle.dumps(FileOracle(tmp_path, timeout=None)))
    assert oracle.folder == tmp_path and oracle.timeout is None and len(points()) == 40
