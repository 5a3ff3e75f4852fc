"""Two processes (gloo) that share what their groups share train to the weights that the plain way gives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).resolve().parents[1]
SCRIPT = """
import sys
from pathlib import Path

import torch

tests, policy, data, output, sharing = sys.argv[1:]
sys.path.insert(0, tests)
from test_trainer import by_length, make_trainer, train

on = sharing == "True"
trainer = make_trainer(
    Path(policy), Path(data), Path(output), score=by_length, rules={"share_vision": on, "share_prefix": on},
    max_steps=2, beta=0.04, learning_rate=1e-3, ddp_find_unused_parameters=False,
)
start = torch.cat([p.detach().flatten() for p in trainer.model.parameters()]).clone()
trainer.train()
end = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
torch.save((start, end), Path(output) / f"weights-{trainer.accelerator.process_index}.pt")
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_to_the_weights_of_the_plain_way(tiny_folder, counting_data, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    trained = {}
    for sharing in (False, True):
        output = tmp_path / str(sharing)
        output.mkdir()
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
        command += [str(TESTS), str(tiny_folder), str(counting_data), str(output), str(sharing)]
        subprocess.run(command, check=True, timeout=400, env=os.environ | {"ACCELERATE_USE_CPU": "true"})
        trained[sharing] = [torch.load(output / f"weights-{rank}.pt") for rank in range(2)]
    (start, plain), (_, plain_other) = trained[False]
    (_, ours), (_, ours_other) = trained[True]
    assert torch.equal(plain, plain_other) and torch.equal(ours, ours_other)  # the processes agree
    assert (ours - plain).norm() < 0.02 * (plain - start).norm()
