"""One process of a training in tests/slow/test_two_processes.py; started by python, accelerate or torchrun.

Samples depend on the prompt, the sample's number, and nothing else: so one process and two draw the same candidates.
The optimizer is SGD: Adam turns a gradient of 1e-9, which is float noise, into a step as large as any.
"""

import asyncio
import json
import sys
import zlib
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import LogitsProcessor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from open_r1.schema import Failure
from open_r1.training.candidate_log import CandidateLog
from open_r1.training.teachers import Asking
from recompute import Recorder
from test_trainer import Teacher, by_length, make_trainer

GROUP = 4


class Drawn(LogitsProcessor):
    """Leaves one token per row: the arg max of logits plus Gumbel noise, seeded by what stands in the row so far."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        only = torch.full_like(scores, -torch.inf)
        for i, ids in enumerate(input_ids):
            text = ids[ids != PAD].tolist()
            noise = torch.Generator().manual_seed(zlib.crc32(f"{i % GROUP} {text}".encode()))
            gumbel = -torch.log(-torch.log(torch.rand(scores.shape[1], generator=noise).clamp(1e-9, 1 - 1e-7)))
            best = (scores[i] + gumbel).argmax()
            only[i, best] = scores[i, best]
        return only


class RankTeacher(Teacher):
    """One right reply and one wrong; by `mode` it fails for every other row, or hangs on process 1."""

    def __init__(self, mode: str):
        super().__init__(None, "<think>no</think>\n<answer>no</answer>")
        self.mode = mode

    async def ask(self, request):
        if self.mode == "fails" and zlib.crc32(request.row.id.encode()) % 2:
            return Failure(self.name, "server", "down")
        if self.mode == "slow" and PartialState().process_index == 1:
            await asyncio.sleep(3600)
        return await super().ask(request)


def main() -> None:
    """Train as the JSON in argv[1] says and write what came out to its `result`."""
    told = json.loads(sys.argv[1])
    output = Path(told["output"])
    teachers = [RankTeacher(told["mode"])]
    changes = {"max_steps": 5, "optim": "sgd", "learning_rate": 0.5, "num_generations": GROUP}
    changes |= {"max_completion_length": 24, **told["changes"]}
    shared = told["mode"] == "shared"
    trainer = make_trainer(
        told["tiny"],
        told["data"],
        output,
        teachers,
        score=by_length,
        asking=Asking(deadline_s=5.0 if told["mode"] == "slow" else 30.0),
        rules={"share_vision": shared, "share_prefix": shared},
        **changes,
    )
    state = PartialState()
    assert (state.num_processes, str(state.distributed_type).split(".")[-1]) == (told["processes"], told["kind"])
    global PAD
    PAD = trainer._tokenizer.pad_token_id

    generate, groups = trainer.model.generate, []
    trainer.model.generate = lambda **kwargs: generate(**kwargs, logits_processor=[Drawn()])
    keep = trainer._generate

    def listen(prompts):
        kept = keep(prompts)
        texts = [turns[0]["content"] for turns in kept[3]]
        for first in range(0, len(texts), GROUP):
            groups.append((trainer.state.global_step, trainer._batch_rows[first].id, texts[first : first + GROUP]))
        return kept

    trainer._generate = listen
    trainer.candidate_log = CandidateLog(output / f"candidates-{state.process_index}.jsonl", every=1, prompts=10**6)
    recorder = Recorder(trainer)
    trainer.train(resume_from_checkpoint=told.get("resume"))
    recorder.save(output / f"tensors-{state.process_index}.pt")
    all_groups = sorted(gather_object(groups))
    trainer.save_model(str(output / "model"))
    state.wait_for_everyone()
    if state.is_main_process:
        (output / "groups.json").write_text(json.dumps(all_groups))
    state.destroy_process_group()


if __name__ == "__main__":
    main()
