"""A tiny but real Qwen2-VL: the model class, processor class and chat format of the 2B, about 1 M parameters.

Its tokenizer is a byte-level BPE of its own, trained on the base policy's corpus, so any text can be encoded. What
is constant in every prompt or reply is a single token each (the system sentence, the task's instruction, the tags, a
digit with its space), because long sequences are what costs time on a CPU.
"""

import json
from collections.abc import Iterable

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AddedToken,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from open_r1.tasks import Task

PATCH = 14  # pixels; a visual token covers 2 x 2 patches, as in Qwen2-VL
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
SYSTEM = "You are a helpful assistant."  # Qwen2-VL's default system turn

# Qwen2-VL's chat format: a default system turn, images as vision_start image_pad vision_end, im_end after each turn.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}"
    "{{ '<|im_start|>system\n" + SYSTEM + "<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{% elif 'text' in part %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_processor(corpus: Iterable[str], task: Task, vocab_size: int = 640) -> Qwen2VLProcessor:
    """Train the tokenizer on `corpus` (problems, reasoning and answers, without tags) and add Qwen2-VL's processors."""
    split = pre_tokenizers.Split(pattern=Regex(PRETOKENIZE_REGEX), behavior="isolated")
    trainee = Tokenizer(models.BPE())
    trainee.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    roles = ["system", "user", "assistant"] * 1000  # frequent in every prompt, absent from the rows
    trainee.train_from_iterator([*corpus, *roles], trainer)
    bpe = json.loads(trainee.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=[tuple(merge) for merge in bpe["merges"]],  # pyright: ignore[reportArgumentType]  # its type hint is wrong
        unk_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=4096,
    )
    tokens = [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    tokenizer.add_tokens(tokens, special_tokens=True)
    constant = [*TAGS, SYSTEM, task.instruction, task.direct_instruction, *(f" {digit}" for digit in range(10))]
    tokens = [AddedToken(token, normalized=False) for token in constant]
    tokenizer.add_tokens(tokens)
    pixels = {"shortest_edge": PATCH * PATCH * 4, "longest_edge": 480_000}
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=pixels),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(processor: Qwen2VLProcessor, seed: int = 0) -> Qwen2VLForConditionalGeneration:
    """Return a freshly initialised tiny Qwen2-VL for `processor`, in float32, deterministic by `seed`.

    Head size 32 and mrope sections [4, 6, 6] are the smallest that vLLM's CPU build serves as well.
    """
    tokenizer = processor.tokenizer
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 2,
            "embed_dim": 96,
            "num_heads": 3,
            "hidden_size": 128,
            "mlp_ratio": 2,
            "patch_size": PATCH,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen2VLForConditionalGeneration(config).float()
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    return model
