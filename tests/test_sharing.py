"""What the rows of a group share is computed once, and nothing else changes: losses, gradients, samples, weights."""

import copy

import pytest
import torch
from PIL import Image
from trl.trainer.utils import add_fused_lm_head

from open_r1.policy.loading import load_policy
from open_r1.policy.prefill_sharing import share_prefill
from open_r1.policy.prefix_sharing import prompts_of_width, share_prefix
from open_r1.policy.vision_sharing import distinct_images, preprocess_once, share_vision, shareable_backbone
from test_trainer import by_length, make_trainer, train, weights

TOKENS, G = 6, 3  # completion tokens, completions per prompt


@pytest.fixture(scope="module")
def policies(tiny_folder):
    """The tiny model in float64, and a Qwen2.5-VL with the same language model."""
    model, processor = load_policy(str(tiny_folder))
    return {"qwen2_vl": model.double(), "qwen2_5_vl": qwen2_5_of(model)}, processor


@pytest.fixture
def float64(monkeypatch):
    """Norms and rotations compute in float32 whatever the weights are; in float64 only the order of sums is left."""
    monkeypatch.setattr(torch, "float32", torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def qwen2_5_of(model):
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    given = model.config.to_dict()
    text = {k: v for k, v in given["text_config"].items() if k not in ("model_type", "architectures")}
    vision = {"depth": 2, "hidden_size": 96, "num_heads": 3, "intermediate_size": 192, "out_hidden_size": 128,
              "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}  # fmt: skip
    ids = {key: value for key, value in given.items() if key.endswith("_token_id")}
    torch.manual_seed(0)
    made = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    )
    return made.double()


def batch(processor, images_per_prompt: int = 1, prompts: int = 2, shuffled: bool = False) -> dict:
    """A batch as TRL makes it: `prompts` times G rows, left-padded prompts, right-padded completions of 1..TOKENS."""
    make = torch.Generator().manual_seed(1)
    pictures = [
        [Image.effect_noise((84 + 28 * p, 84), 30 + 10 * n).convert("RGB") for n in range(images_per_prompt)]
        for p in range(prompts)
    ]
    order = [p for p in range(prompts) for _ in range(G)]
    if shuffled:
        order = [order[i] for i in torch.randperm(len(order), generator=make)]
    texts = ["<|vision_start|><|image_pad|><|vision_end|>" * images_per_prompt + "large red cube 1 " * (p + 1)
             for p in range(prompts)]  # fmt: skip
    inputs = processor(
        images=[pictures[p] for p in order], text=[texts[p] for p in order], padding=True, return_tensors="pt"
    )
    B = len(order)
    reply = torch.randint(20, 300, (B, TOKENS), generator=make)
    lengths = torch.randint(1, TOKENS + 1, (B, 1), generator=make)
    reply_mask = (torch.arange(TOKENS) < lengths).long()
    ids = torch.cat([inputs["input_ids"], reply], dim=1)
    mask = torch.cat([inputs["attention_mask"], reply_mask], dim=1)
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :-TOKENS] = -100
    types = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(reply)], dim=1)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "mm_token_type_ids": types,
            "pixel_values": inputs["pixel_values"].double(), "image_grid_thw": inputs["image_grid_thw"]}  # fmt: skip


def shared(model):
    twin = copy.deepcopy(model)
    share_vision(twin.base_model)
    share_prefix(twin.base_model)
    return twin


def loss_and_gradients(model, inputs: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The sum of log-probs under random weights per token, and its gradients; through TRL's fused head."""
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    model.zero_grad()
    with prompts_of_width(inputs["input_ids"].size(1) - TOKENS):
        out = model(**inputs, fused_lm_head=True)
    token_weights = torch.randn(out.log_probs.shape, generator=torch.Generator().manual_seed(2)).to(out.log_probs)
    (out.log_probs * token_weights).sum().backward()
    return out.log_probs.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp(min=1e-30))


def assert_same(ours, theirs, below=1e-9):
    assert difference(ours[0], theirs[0]) < below
    assert ours[1].keys() == theirs[1].keys()
    assert max(difference(ours[1][name], grad) for name, grad in theirs[1].items() if grad.norm() > 1e-8) < below


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
@pytest.mark.parametrize(("images", "shuffled"), [(1, False), (2, True)])
def test_log_probs_and_gradients_are_those_of_the_plain_pass(policies, float64, name, images, shuffled):
    models, processor = policies
    inputs = batch(processor, images, shuffled=shuffled)
    plain = loss_and_gradients(copy.deepcopy(models[name]), inputs)
    assert plain[0].norm() > 1 and len(plain[1]) > 40
    assert_same(loss_and_gradients(shared(models[name]), inputs), plain)


def test_a_prompt_alone_in_its_micro_batch_and_a_completion_without_tokens_change_nothing(policies, float64):
    models, processor = policies
    inputs = batch(processor)
    rows = torch.tensor([0, G])  # one row of each group, as when a group is split over micro-batches
    per_image = inputs["image_grid_thw"].prod(-1).tolist()
    pixels = inputs.pop("pixel_values").split(per_image)
    inputs = {key: value[rows] for key, value in inputs.items()} | {
        "pixel_values": torch.cat([pixels[r] for r in rows])
    }
    inputs["attention_mask"][1, -TOKENS:] = 0  # mask_truncated_completions leaves such rows
    inputs["labels"][1] = -100
    plain = loss_and_gradients(copy.deepcopy(models["qwen2_vl"]), inputs)
    assert_same(loss_and_gradients(shared(models["qwen2_vl"]), inputs), plain)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_keeps_the_gradients(policies, float64, reentrant):
    models, processor = policies
    inputs = batch(processor)
    plain = loss_and_gradients(copy.deepcopy(models["qwen2_vl"]), inputs)
    twin = shared(models["qwen2_vl"]).train()
    twin.gradient_checkpointing_enable({"use_reentrant": reentrant})
    twin.enable_input_require_grads()
    assert_same(loss_and_gradients(twin, inputs), plain)


def test_under_lora_the_adapters_gradients_are_the_same(policies, float64):
    from peft import LoraConfig, get_peft_model

    models, processor = policies
    inputs = batch(processor)
    results = []
    for share in (False, True):
        torch.manual_seed(0)
        model = copy.deepcopy(models["qwen2_vl"])
        lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj", "qkv"], init_lora_weights="gaussian")
        adapted = get_peft_model(model, lora)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:  # zeros would leave lora_A without a gradient
                torch.nn.init.normal_(parameter, std=0.1)
        if share:
            share_vision(shareable_backbone(adapted))
            share_prefix(shareable_backbone(adapted))
        add_fused_lm_head(adapted.get_base_model())
        results.append(loss_and_gradients_of_peft(adapted.double(), inputs))
    assert len(results[0][1]) >= 20
    assert_same(results[1], results[0])


def loss_and_gradients_of_peft(adapted, inputs):
    with prompts_of_width(inputs["input_ids"].size(1) - TOKENS):
        out = adapted(**inputs, fused_lm_head=True)
    out.log_probs.square().sum().backward()
    return out.log_probs.detach(), {n: p.grad for n, p in adapted.named_parameters() if p.grad is not None}


def test_in_bfloat16_the_gradients_point_the_same_way(policies):
    models, processor = policies
    inputs = batch(processor, prompts=1)
    gradients = []
    for model in (copy.deepcopy(models["qwen2_vl"]).float(), shared(models["qwen2_vl"]).float()):
        with torch.autocast("cpu", torch.bfloat16):
            _, grads = loss_and_gradients(model, inputs)
        gradients.append(torch.cat([grad.flatten() for grad in grads.values()]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999
    assert not torch.equal(*gradients)  # two different computations were compared


@pytest.mark.parametrize("images", [1, 2])
def test_the_tower_sees_each_picture_once_and_the_language_model_each_prompt_once(policies, images):
    models, processor = policies
    inputs, twin = batch(processor, images), shared(models["qwen2_vl"])
    seen = {}
    twin.base_model.visual.register_forward_pre_hook(lambda _, args: seen.update(patches=args[0].size(0)))
    layer = twin.base_model.language_model.layers[0]
    layer.register_forward_pre_hook(lambda _, args: seen.update(tokens=args[0].shape))
    loss_and_gradients(twin, inputs)
    assert seen["patches"] == inputs["pixel_values"].size(0) / G
    prompts, replies = inputs["attention_mask"][:, :-TOKENS].sum(), inputs["attention_mask"][:, -TOKENS:].sum()
    assert seen["tokens"][:2] == (1, prompts / G + replies)  # no prompt twice, no padding


def test_a_picture_with_one_other_value_is_another_picture():
    pixels = torch.arange(4 * 6, dtype=torch.float).view(4, 6).repeat(3, 1)
    grid = torch.tensor([[1, 2, 2]] * 3)
    assert distinct_images(pixels, grid) == ([0], [0, 0, 0])
    pixels[7, 5] += 1e-3
    assert distinct_images(pixels, grid) == ([0, 1], [0, 1, 0])
    assert distinct_images(pixels, torch.tensor([[1, 2, 2], [1, 1, 4], [1, 4, 1]]))[0] == [0, 1, 2]  # other shapes


def test_generation_prefills_each_prompt_once_and_draws_the_same_samples(policies):
    models, processor = policies
    inputs = batch(processor, images_per_prompt=2)
    prompt = {key: value[:, :-TOKENS] if value.size(0) == 2 * G and key != "pixel_values" else value
              for key, value in inputs.items() if key != "labels"}  # fmt: skip
    prompt["image_grid_thw"] = inputs["image_grid_thw"]
    twin, rows = shared(models["qwen2_vl"]).eval(), []
    share_prefill(twin)
    twin.base_model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(kwargs["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    samples = []
    for model in (copy.deepcopy(models["qwen2_vl"]).eval(), twin):
        torch.manual_seed(3)
        samples.append(model.generate(**prompt, do_sample=True, max_new_tokens=8, eos_token_id=-1, pad_token_id=0))
    assert torch.equal(*samples)
    assert samples[0].shape[1] - prompt["input_ids"].shape[1] == 8
    assert rows[0] == (2, prompt["input_ids"].shape[1]) and rows[1:] == [(2 * G, 1)] * 7


@pytest.mark.parametrize("setting", ["share_vision", "both"])
def test_training_gives_trls_weights_up_to_rounding(tiny_folder, counting_data, tmp_path, setting):
    on = {"share_vision": True, "share_prefix": setting == "both"}
    changes = {"max_steps": 2, "beta": 0.04, "learning_rate": 1e-3, "per_device_train_batch_size": 4,
               "gradient_accumulation_steps": 2, "temperature": 1.0}  # fmt: skip
    trained = []
    for sharing in ({}, on):
        trainer = make_trainer(tiny_folder, counting_data, tmp_path, score=by_length, rules=sharing, **changes)
        before = weights(trainer.model)
        metrics = train(trainer)
        trained.append((torch.cat([w.flatten() for w in weights(trainer.model)]), metrics))
    (plain, told), (ours, ours_told) = trained
    start = torch.cat([w.flatten() for w in before])
    assert (
        ours_told["reward"] == told["reward"]
        and ours_told["completions/mean_length"] == told["completions/mean_length"]
    )
    assert ours_told["kl"] == pytest.approx(told["kl"], rel=1e-3)
    assert (plain - start).norm() > 0.05
    # Adam's first steps are the sign of each gradient, so the few that are rounding noise may differ by a whole step.
    assert (ours - plain).norm() < 0.02 * (plain - start).norm()


def test_another_architecture_trains_the_plain_way_with_one_line_in_the_log(caplog):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    assert shareable_backbone(LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=8))) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "LlamaForCausalLM" in caplog.text


def test_a_saved_policy_knows_nothing_of_the_sharing(policies, tmp_path):
    models, processor = policies
    shared(models["qwen2_vl"]).save_pretrained(tmp_path)
    with preprocess_once(processor.image_processor):
        pass
    processor.save_pretrained(tmp_path)
    assert "shared" not in (tmp_path / "config.json").read_text()
    load_policy(str(tmp_path))


def test_a_picture_object_is_preprocessed_once_over_all_calls_in_the_block(policies, monkeypatch):
    processor = policies[1].image_processor
    a, b = (Image.effect_noise((84, 56 + 28 * n), 40).convert("RGB") for n in range(2))
    plain = processor([[a], [b], [a]], return_tensors="pt")
    given = []
    inner = type(processor).preprocess
    monkeypatch.setattr(
        type(processor), "preprocess", lambda self, images, **k: given.append(images) or inner(self, images, **k)
    )
    with preprocess_once(processor):
        ours = processor([[a], [b], [a]], return_tensors="pt")
        processor([[b], [a]])
    assert [len(images) for images in given] == [2]
    assert all(torch.equal(ours[key], plain[key]) for key in plain)
    processor([[a]])
    assert len(given) == 2  # outside the block it is the class's own
