"""Whole weights where training shards them: DeepSpeed's ZeRO-3 and FSDP2.

Both change what `from_pretrained` returns for as long as they are configured: ZeRO-3 cuts every weight to this
process's part, FSDP fills the weights of all processes but the first of a node with zeros and lets training overwrite
them. That is right for the policy that is trained and wrong for one that each process evaluates on its own.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import patch_environment
from torch.distributed.fsdp import FSDPModule
from transformers import training_args
from transformers.integrations import deepspeed as zero


@contextmanager
def whole_weights() -> Iterator[None]:
    """Inside the block `from_pretrained` gives every process the whole checkpoint, however training shards it."""
    seen = zero._hf_deepspeed_config_weak_ref and zero._hf_deepspeed_config_weak_ref()
    zero.unset_hf_deepspeed_config()
    try:
        with patch_environment(fsdp_cpu_ram_efficient_loading="false"):
            yield
    finally:
        if seen is not None:
            zero.set_hf_deepspeed_config(seen)


@contextmanager
def deepspeed_on_cpu() -> Iterator[None]:
    """Inside the block TrainingArguments takes bf16 for DeepSpeed on CPUs, a rehearsal of a run on GPUs.

    transformers asks for a GPU where bf16 is set and use_cpu is not, and with use_cpu DeepSpeed is not used.
    """
    if os.environ.get("DS_ACCELERATOR") != "cpu":  # launch.py sets it
        yield
        return
    with patch.object(training_args, "is_torch_bf16_gpu_available", lambda: True):
        yield


def begin_sharding(args: Any) -> None:
    """Let the next stage of a run be sharded as `args`, its TrainingArguments, say.

    accelerate takes one DeepSpeed configuration per process, and the stage before has left its own.
    """
    AcceleratorState._reset_state()
    if args.deepspeed_plugin is not None:
        args.deepspeed_plugin.set_deepspeed_weakref()


def describe_sharding(args: Any) -> dict[str, Any]:
    """How `args`, TrainingArguments, let processes share a training, e.g. {"type": "MULTI_GPU", "processes": 8}."""
    state, plugin = PartialState(), args.deepspeed_plugin
    stage = {} if plugin is None else {"zero_stage": plugin.zero_stage, "offload": plugin.offload_optimizer_device}
    return {"type": state.distributed_type.value, "processes": state.num_processes, **stage}


@contextmanager
def unsharded(model: Any) -> Iterator[None]:
    """Inside the block every process holds the whole of an FSDP2 model and runs it without the others.

    Nothing happens to a model that FSDP2 does not shard. All processes enter and leave together.
    """
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not parts[0], recurse=False)  # the root stays whole until backward


def release_memory() -> None:
    """Return the memory of models that nothing holds any more: theirs are cycles, which Python finds when it likes."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
