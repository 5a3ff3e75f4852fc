"""One of two processes of test_fsdp2.py, started by torchrun: prints what it found as one JSON line to argv[2]-rank."""

import json
import sys
from pathlib import Path

import torch
from torch.distributed.fsdp import fully_shard
from transformers import Qwen2VLForConditionalGeneration

from open_r1.policy.loading import load_policy
from open_r1.policy.sharding import unsharded, whole_weights


def zeros(model: torch.nn.Module) -> int:
    """How many parameters hold nothing but zeros; biases are made as zeros and do not count."""
    return sum(not parameter.any() for name, parameter in model.named_parameters() if not name.endswith("bias"))


def main() -> None:
    """Load both ways; shard; run the sharded model as often as this process's number says."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    found: dict = {"rank": rank, "zeros as training loads": zeros(load_policy(sys.argv[1])[0])}
    with whole_weights():
        model, _ = load_policy(sys.argv[1])
        found["zeros as evaluation loads"] = zeros(model)
    ids = torch.arange(100, 110)[None]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    model = shard(model)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, expected)
    found["sharded"] = sum(parameter.to_local().numel() for parameter in model.parameters())
    with unsharded(model), torch.inference_mode():
        found["whole"] = sum(parameter.numel() for parameter in model.parameters())
        for _ in range(1 + 3 * rank):  # more passes here than there: a collective in them would wait for ever
            torch.testing.assert_close(model(input_ids=ids).logits, expected)
        replies = model.generate(input_ids=ids, max_new_tokens=1 + 3 * rank, do_sample=False, synced_gpus=False)
        found["new tokens"] = replies.shape[1] - ids.shape[1]
    found["sharded again"] = sum(parameter.to_local().numel() for parameter in model.parameters())
    loss = model(input_ids=ids).logits.square().mean()
    loss.backward()
    found["gradients"] = sum(parameter.grad is not None for parameter in model.parameters())
    Path(f"{sys.argv[2]}-{rank}").write_text(json.dumps(found))
    torch.distributed.barrier()  # a process that leaves early can take the other with it
    torch.distributed.destroy_process_group()


def shard(model: Qwen2VLForConditionalGeneration) -> Qwen2VLForConditionalGeneration:
    """As accelerate's FSDP2 does it: every layer, then the whole."""
    for layer in [*model.model.language_model.layers, *model.model.visual.blocks]:
        fully_shard(layer, reshard_after_forward=True)
    return fully_shard(model, reshard_after_forward=True)


if __name__ == "__main__":
    main()
