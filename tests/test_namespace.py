"""Which Lightning, and none where none is needed. Each case in a process of its own."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

import lightning_diffal
from lightning_diffal import _namespace
from lightning_diffal.exceptions import ConfigurationError


def run(code, **environment):
    clean = {k: v for k, v in os.environ.items() if k != _namespace.VARIABLE}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean | environment, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


LOADED = (
    "print(sorted(m for m in ('pytorch_lightning', 'lightning', 'lightning_diffal._lightning') if m in sys.modules))"
)


@pytest.mark.parametrize(
    "use",
    [
        "lightning_diffal.graph, lightning_diffal.diffusion, lightning_diffal.neighbors",
        "lightning_diffal.DiffusionSampler, lightning_diffal.QueryData, lightning_diffal.Query",
        "lightning_diffal.samplers.RandomSampler()",
    ],
)
def test_no_lightning_without_a_trainer(use):
    assert run(f"import sys, lightning_diffal; {use}; {LOADED}") == "[]"


def test_what_the_process_has_imported():
    code = "import lightning_diffal; print(lightning_diffal.ActiveDataModule.__mro__[2].__module__)"
    assert run(f"import pytorch_lightning; {code}").startswith("pytorch_lightning")


@pytest.mark.parametrize("how", ["variable", "call"])
def test_asked_for(how):
    namespace = _namespace.NAMESPACES[0]
    call = f"lightning_diffal.for_lightning({namespace!r});" if how == "call" else ""
    environment = {_namespace.VARIABLE: namespace} if how == "variable" else {}
    code = f"import lightning_diffal; {call} from lightning_diffal import _lightning; print(_lightning.NAMESPACE)"
    assert run(code, **environment) == namespace


@pytest.mark.skipif(find_spec("lightning") is None, reason="needs the `lightning` package beside pytorch_lightning")
def test_both_are_at_hand():
    code = "import lightning_diffal\ntry: lightning_diffal.ActiveLearning\nexcept ValueError as e: print(e)"
    assert "Say which one" in run(code)
    assert run(f"import lightning.pytorch; {code}") == ""


class TestRefused:
    """With what to do."""

    def test_a_wrong_name(self, monkeypatch):
        with pytest.raises(ConfigurationError, match=r"`namespace` to be one of .*'lightning'"):
            lightning_diffal.for_lightning("lightning")
        monkeypatch.setenv(_namespace.VARIABLE, "torch")
        with pytest.raises(ConfigurationError, match=f"`{_namespace.VARIABLE}` to be one of"):
            _namespace.choose_namespace()

    def test_too_late(self, monkeypatch):
        monkeypatch.setenv(_namespace.VARIABLE, "")  # put back afterwards
        from lightning_diffal import _lightning

        other = next(name for name in _namespace.NAMESPACES if name != _lightning.NAMESPACE)
        with pytest.raises(ConfigurationError, match=f"already uses {_lightning.NAMESPACE!r}"):
            lightning_diffal.for_lightning(other)
        lightning_diffal.for_lightning(_lightning.NAMESPACE)  # the same again is fine

    @pytest.mark.parametrize(
        ("installed", "message"), [((), "not installed"), (("pytorch_lightning", "lightning"), "Say which")]
    )
    def test_none_or_two_installed(self, installed, message, monkeypatch):
        monkeypatch.delenv(_namespace.VARIABLE, raising=False)
        for name in ("pytorch_lightning", "lightning.pytorch"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(_namespace.importlib.util, "find_spec", lambda name: name if name in installed else None)
        with pytest.raises(ConfigurationError, match=message):
            _namespace.choose_namespace()

    def test_a_name_that_does_not_exist(self):
        with pytest.raises(AttributeError, match="no attribute 'ActiveLerning'"):
            _ = lightning_diffal.ActiveLerning
        assert {"ActiveLearning", "graph"} <= set(dir(lightning_diffal))
