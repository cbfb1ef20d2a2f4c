"""What one process cannot send leaves no other one waiting."""

import json
from types import SimpleNamespace

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from lightning_diffal.exceptions import ConfigurationError, DiffalError, OtherProcessError
from lightning_diffal.processes.ranks import Ranks


def work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    ranks = Ranks(SimpleNamespace(world_size=2, global_rank=rank, strategy=None))
    found = []
    for call in (
        lambda: ranks.decide(lambda: lambda: 0),
        lambda: ranks.everyone((lambda: 0) if rank == 1 else 0),
        lambda: ranks.decide(lambda: 1 // 0),
        lambda: ranks.together(lambda: 1 // (1 - rank)),
    ):
        try:
            call()
            found.append("nothing")
        except Exception as error:
            found.append([type(error).__name__, isinstance(error, DiffalError)])
    found.append(ranks.everyone(rank))
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
    ranks.forget()
    dist.destroy_process_group()


def test_what_cannot_be_sent_is_an_error_everywhere(tmp_path):
    mp.start_processes(work, (tmp_path,), nprocs=2, start_method="fork")
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    other = [OtherProcessError.__name__, True]
    assert first[0][0] in ("PicklingError", "AttributeError")
    assert first[1:4] == [
        other,
        ["ZeroDivisionError", False],
        other,
    ]
    assert second[0] == other and second[2:4] == [other, ["ZeroDivisionError", False]]
    assert second[1][0] in ("PicklingError", "AttributeError") and first[4] == second[4] == [0, 1]


def test_processes_that_do_not_talk_through_torch_are_refused_by_name():
    class XLAStrategy:
        restore_checkpoint_after_setup = False

    trainer = SimpleNamespace(world_size=8, global_rank=0, strategy=XLAStrategy())
    with pytest.raises(ConfigurationError, match=r"XLAStrategy runs 8 processes without .*: use `strategy='ddp'`"):
        Ranks(trainer)
