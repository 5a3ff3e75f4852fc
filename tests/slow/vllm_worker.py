"""vLLM's CPU build under the trainer: what test_vllm_training.py starts in an environment with both.

    python vllm_worker.py train RECIPE OUTPUT         grpo.py as it is, with a colocated vLLM
    python vllm_worker.py server URL MODEL OUTPUT     TRL's server mode without its weight sync, which is CUDA's alone

The set-up below is the CPU's: on a GPU vLLM computes with the weights that it is given, its CPU build with packed ones
which no new weights reach. Nothing of open_r1 or TRL is changed.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}
os.environ |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "WANDB_MODE": "disabled"}
MAX_PIXELS = 4 * 28 * 28  # four tokens at most: every picture below is scaled down


def plain_matrices(layer, remove_weight):
    """Multiply with the weight itself."""
    import torch

    layer.cpu_linear = lambda x, weight, bias: torch.nn.functional.linear(x, weight, bias)


def train(recipe: str, output: str) -> None:
    """Train as the recipe says; OUTPUT gets per generation 20 log-probs, pictures as given and swapped."""
    from vllm import LLM, SamplingParams
    from vllm.model_executor.layers import linear, utils, vocab_parallel_embedding

    for module in (utils, linear, vocab_parallel_embedding):
        module.dispatch_cpu_unquantized_gemm = plain_matrices
    from trl.generation import vllm_generation

    vllm_generation.LLM = partial(LLM, dtype="float32", enforce_eager=True)
    from open_r1 import grpo

    said, generate = [], vllm_generation.VLLMGeneration.generate
    asking = SamplingParams(temperature=1.0, max_tokens=1, logprobs=20, seed=0)

    def listen(self, prompts, images, *args, **kwargs):
        result = generate(self, prompts, images, *args, **kwargs)
        both = [{"prompt_token_ids": prompts[0], "multi_modal_data": {"image": images[0][::way]}} for way in (1, -1)]
        outputs = self.llm.generate(both, sampling_params=asking, use_tqdm=False)
        tops = [{t: v.logprob for t, v in out.outputs[0].logprobs[0].items()} for out in outputs]
        said.append({"pictures": len(images[0]), "tokens": len(prompts[0]), "next": tops})
        return result

    vllm_generation.VLLMGeneration.generate = listen
    grpo.main(["--config", recipe])
    Path(output).write_text(json.dumps(said))


def server(url: str, model_path: str, output: str) -> None:
    """Sample of prompts with one and two large pictures; OUTPUT gets both sides' log-probs of what was sampled."""
    import numpy as np
    import torch
    from PIL import Image
    from trl.generation.vllm_client import VLLMClient
    from trl.generation.vllm_generation import VLLMGeneration

    from open_r1.policy.loading import load_policy
    from open_r1.schema import UserError
    from open_r1.training.vllm_engine import see_pictures_once

    model, processor = load_policy(model_path, MAX_PIXELS)
    rng, found = np.random.default_rng(0), []
    pictures = [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for h, w in ((140, 224), (168, 112))]
    for images in (pictures[:1], pictures, pictures[::-1]):
        content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": "How many?"}]
        chat = [{"role": "user", "content": content}]
        seen = processor.apply_chat_template(
            [chat], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        ids = seen["input_ids"][0].tolist()
        generation = object.__new__(VLLMGeneration)
        told = {"mode": "server", "processing_class": processor, "logprobs": 0, "structured_outputs_regex": None}
        told |= {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}
        told |= {"max_completion_length": 12, "generation_kwargs": {"seed": 1}, "vllm_client": VLLMClient(base_url=url)}
        vars(generation).update(told, accelerator=SimpleNamespace(is_main_process=True, process_index=0))
        see_pictures_once(generation, processor)
        prompt_ids, replies, logprobs, _ = generation.generate([ids], [images], num_generations=1)
        assert prompt_ids == [ids]
        whole = torch.tensor([ids + replies[0]])
        kinds = (whole == processor.image_token_id).int()
        inputs = {name: seen[name] for name in ("pixel_values", "image_grid_thw")}
        with torch.no_grad():
            logits = model(input_ids=whole, mm_token_type_ids=kinds, **inputs).logits[0, len(ids) - 1 : -1]
        trainer = logits.log_softmax(-1).gather(1, torch.tensor(replies[0])[:, None])[:, 0].tolist()
        found.append({"tokens": len(ids), "vllm": [lp[0] for lp in logprobs[0]], "trainer": trainer})
    processor.image_processor.size["longest_edge"] = 16 * 28 * 28
    seen = processor.apply_chat_template([chat], add_generation_prompt=True, tokenize=True, return_dict=True)
    try:
        generation.generate([seen["input_ids"][0]], [images], num_generations=1)
    except UserError as error:
        found.append({"refusal": str(error)})
    Path(output).write_text(json.dumps(found))


if __name__ == "__main__":
    {"train": train, "server": server}[sys.argv[1]](*sys.argv[2:])
