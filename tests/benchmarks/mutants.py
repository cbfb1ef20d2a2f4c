"""Mutation testing: change a module in one place at a time, and see whether its tests notice.

    python tests/benchmarks/mutants.py [NAME ...] [--every N]

Names are those of `MODULES`. Each mutant runs in a child process that has the large libraries loaded already. A mutant
that no test notices survives and is printed: either a test is missing, or the change makes no difference.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = {
    "diffusion": ("diffusion/equations.py", ["tests/diffusion"]),
    "boundary": ("diffusion/boundary.py", ["tests/diffusion", "tests/samplers/test_diffusion.py"]),
    "weights": ("graph/weights.py", ["tests/graph"]),
    "kernel": ("graph/kernel.py", ["tests/graph"]),
    "greedy": ("samplers/greedy.py", ["tests/samplers/test_greedy.py", "tests/samplers/test_covering.py"]),
    "sampler": (
        "samplers/diffusion.py",
        [
            "tests/samplers/test_diffusion.py",
            "tests/samplers/test_paper_criterion.py",
            "tests/samplers/test_covering.py",
        ],
    ),
    "pool": ("labels/pool.py", ["tests/labels"]),
    "journal": ("history/journal.py", ["tests/history/test_journal.py", "tests/history/test_lines.py"]),
}
SECONDS = 120  # of computing; a mutant that runs for longer was noticed: a loop without end
_COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_BINARY = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult, ast.MatMult: ast.Add,
}  # fmt: skip


def changed(node: ast.AST) -> ast.AST | None:
    """The node with one thing in it turned round; `None` where there is nothing to turn."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and type(new.ops[0]) in _COMPARE:
        new.ops[0] = _COMPARE[type(new.ops[0])]()
    elif isinstance(new, ast.BinOp) and type(new.op) in _BINARY:
        new.op = _BINARY[type(new.op)]()
    elif isinstance(new, ast.BoolOp):
        new.op = ast.And() if isinstance(new.op, ast.Or) else ast.Or()
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.Not | ast.USub | ast.Invert):
        return new.operand
    elif isinstance(new, ast.Constant) and isinstance(new.value, bool | int | float):
        new.value = (not new.value) if isinstance(new.value, bool) else new.value + 1
    elif isinstance(new, ast.IfExp):
        new.body, new.orelse = new.orelse, new.body
    else:
        return None
    return new


def mutants(source: str) -> Iterator[tuple[int, str, str, str]]:
    """Line, what stood there, what stands there now, and the whole source; messages and annotations stay."""
    places = list(_places(ast.parse(source)))
    for number in range(len(places)):
        tree = ast.parse(source)
        parent, field, index, node = list(_places(tree))[number]
        new = changed(node)
        if new is None:
            continue
        if index is None:
            setattr(parent, field, new)
        else:
            getattr(parent, field)[index] = new
        yield node.lineno, ast.unparse(node), ast.unparse(new), ast.unparse(ast.fix_missing_locations(tree))


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list") or isinstance(tree, ast.Raise | ast.JoinedStr):
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.AST):
                yield tree, field, index if isinstance(value, list) else None, child
                yield from _places(child)


class _Replaced(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a module another source."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def noticed(name: str, path: Path, source: str, tests: list[str]) -> bool:
    """Whether the tests fail with this source in place of the module's own."""
    import pytest

    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # kills; a busy machine is no reason
        signal.alarm(10 * SECONDS)  # one that sleeps
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1), os.dup2(silence, 2)
        sys.meta_path.insert(0, _Replaced(name, path, source))
        options = ["-x", "-q", "-o", "addopts=", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:randomly"]
        status = 1
        try:
            status = int(pytest.main([*options, *tests]))
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] != 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(MODULES), metavar="NAME", help=", ".join(MODULES))
    parser.add_argument("--every", type=int, default=1, help="only each N-th mutant (default: 1)")
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    import hypothesis  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import scipy.sparse.csgraph  # noqa: F401
    import torchmetrics  # noqa: F401

    for name in options.names:
        file, tests = MODULES[name]
        path = ROOT / "lightning_diffal" / file
        source = path.read_text(encoding="utf-8")
        module = f"lightning_diffal.{file[:-3].replace('/', '.')}"
        if noticed(module, path, ast.unparse(ast.parse(source)), tests):
            sys.exit(f"{name}: its tests fail without any change")
        found = list(mutants(source))[:: options.every]
        survivors = 0
        for line, before, after, text in found:
            if not noticed(module, path, text, tests):
                survivors += 1
                print(f"{file}:{line}: {before}  ->  {after}", flush=True)
        print(f"{name}: {len(found) - survivors} of {len(found)} mutants were noticed", flush=True)


if __name__ == "__main__":
    main()
