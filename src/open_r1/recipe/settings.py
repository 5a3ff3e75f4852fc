"""The project's own settings: every key that a recipe may hold beyond TRL's, with its default and its help.

Kept apart from `configs.py` because importing TRL takes ten seconds: `launch.py` and its dry run need the names, types
and rules only, and answer without it. `configs.EKIPLConfig` joins these fields to `trl.GRPOConfig`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

GRACE_S = 30.0  # how far past the deadline a busy machine may deliver before the loop counts as blocked

MODELS = ("tiny", "2b", "7b")
DATA_SIZES = ("tiny", "full")
PROMPT_KINDS = ("reasoning", "direct")
PROVIDERS = ("scripted", "litellm")
EXTERNAL_WEIGHTS = ("uncorrected", "is", "snis", "luffy", "sft")
WEIGHT_LEVELS = ("sequence", "token")
WEIGHT_PROPOSALS = ("own", "mixture")
STAGES = ("sft", "rl")  # what a method may be made of, each at most once and in this order


def _setting(default: Any, help: str, only: str = "") -> Any:
    """Declare a field the way transformers does: default and help side by side. `only` names the provider it is for."""
    return field(default=default, metadata={"help": help, "only": only})


@dataclass(frozen=True)
class ExternalModelConfig:
    """One external model (teacher), as an entry of `external_models` describes it.

    Example: ExternalModelConfig(name="gpt-4o-scripted", accuracy=0.681).
    """

    name: str = _setting("", "Source name of its candidates in metrics and figures; unique, and not 'policy'.")
    provider: str = _setting("scripted", "Who answers: 'scripted' from the row's ground truth, 'litellm' a real model.")
    n: int | None = _setting(None, "Replies asked for per prompt (N of this source); empty: num_external_samples.")
    timeout_s: float = _setting(30.0, "Seconds after which a call counts as failed, its retries and pauses included.")
    logprobs: bool = _setting(True, "Take log-probs where it gives them; external_weight is and snis need them.")
    same_tokenizer: bool = _setting(False, "Whether it has the policy's tokenizer; weight_level token needs that.")
    scores: bool = _setting(
        False, "Whether it can say how likely it finds others' replies (scripted, vLLM); weight_proposal mixture asks."
    )

    accuracy: float = _setting(0.5, "Mean accuracy of its replies, in [0, 1].", only="scripted")
    accuracy_by_kind: dict[str, float] = field(
        default_factory=dict,
        metadata={"help": "Accuracy for a question family, in place of `accuracy`.", "only": "scripted"},
    )
    correlation: float = _setting(
        0.0, "Correlation of being right between replies to a question, [0, 1).", only="scripted"
    )
    format_rate: float = _setting(1.0, "Share of replies with both tags in place, in [0, 1].", only="scripted")
    fail_rate: float = _setting(0.0, "Share of calls that fail, in [0, 1].", only="scripted")
    latency_s: float = _setting(0.0, "Seconds that a call takes.", only="scripted")

    model: str = _setting("", "The model as litellm names it: gpt-4o-2024-11-20, hosted_vllm/NAME.", only="litellm")
    revision: str = _setting(
        "", "Which weights answer, where `model` does not say it; another one buys anew.", only="litellm"
    )
    api_base: str = _setting(
        "", "Address of an own server, http://HOST:PORT/v1; empty: the provider's.", only="litellm"
    )
    key_variable: str = _setting("", "NAME of the environment variable that holds the key.", only="litellm")
    temperature: float | None = _setting(None, "Sampling temperature; empty: the API's default.", only="litellm")
    top_p: float | None = _setting(None, "Nucleus share; empty: the API's default.", only="litellm")
    max_tokens: int = _setting(1024, "Tokens at most per reply, those of hidden reasoning included.", only="litellm")
    n_per_request: int | None = _setting(
        None,
        "Replies asked for in one request; empty: n where the API takes n, else 1.",
        only="litellm",
    )
    extra_body: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Further keys of the request's body, as they are.", "only": "litellm"}
    )
    requests_per_minute: float | None = _setting(None, "Rate limit kept on this side; empty: none.", only="litellm")
    tokens_per_minute: float | None = _setting(None, "The same in tokens, prompt and reply.", only="litellm")
    concurrency: int = _setting(64, "Requests under way at once.", only="litellm")
    max_retries: int = _setting(3, "Further attempts after a rate limit or a server's error.", only="litellm")
    usd_per_million_in: float | None = _setting(
        None, "Dollars per million prompt tokens; empty: litellm's price table.", only="litellm"
    )
    usd_per_million_out: float | None = _setting(None, "The same for the reply's tokens.", only="litellm")


@dataclass
class Settings:
    """What the project adds to TRL's settings (axis letters: CONTRIBUTING.md).

    `checks.check_recipe` holds the rules between them; nothing here is valid because a default says so.
    """

    task: str = _setting("clevr_math", "Task: clevr_math, geomath or trance.")
    model: str = _setting("tiny", "Policy: tiny (runs on a CPU), 2b or 7b (Qwen2-VL-Instruct).")
    method: str = _setting("ekipl", "Method: a file in recipes/methods.")
    model_path: str = _setting("", "Folder or hub id of the policy; empty for tiny: the base policy of base_path.")
    base_path: str = _setting("", "Folder of the tiny base policy; empty: the task's own, made where it is missing.")
    max_pixels: int = _setting(480_000, "Pictures are scaled down to at most this many pixels before the vision tower.")

    data_path: str = _setting("", "Folder, JSON file or hub id of the data; empty: synthetic data are made.")
    data_size: str = _setting("tiny", "Size of the synthetic pictures: tiny or full.")
    num_train_rows: int | None = _setting(None, "Training rows to make or to use; empty: all there are.")
    num_test_rows: int | None = _setting(None, "Rows to evaluate per test set; empty: all there are.")
    skip_bad_rows: bool = _setting(False, "Leave out rows that cannot be used (counted) in place of stopping.")

    prompt_kind: str = _setting("reasoning", "reasoning asks for think and answer tags, direct for the bare answer.")
    grader_setting: str = _setting("", "The grader's variant in training; empty: the task's first.")
    eval_setting: str = _setting("", "The grader's variant in evaluation; empty: partial where the task has it.")

    prompts_per_step: int | None = _setting(
        None, "Prompts per optimizer step, over all processes; gradient_accumulation_steps follows from it."
    )
    # TRL's, with another default, so that a value that was given can be told from one that was not.
    gradient_accumulation_steps: int | None = _setting(None, "Micro-batches of a step; empty: see prompts_per_step.")
    stages: list[str] = field(
        default_factory=lambda: ["rl"], metadata={"help": "The method's stages in order: sft, rl, both or none."}
    )
    sft: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "SFTConfig's settings of the sft stage, over what it shares with the run."},
    )
    sft_rows: int | None = _setting(None, "The first rows, for the sft stage; rl gets the others. Empty: all for both.")
    sft_rows_again: bool = _setting(False, "The rl stage trains on the rows of the sft stage as well.")
    lora: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "peft.LoraConfig's settings, e.g. {r: 64}; empty trains every weight."}
    )

    num_policy_samples: int | None = _setting(None, "N: the policy's candidates per prompt; empty: num_generations.")
    external_models: list[dict[str, Any]] = field(
        default_factory=list, metadata={"help": "The external models, see ExternalModelConfig; none is plain GRPO."}
    )
    external_deadline_s: float = _setting(60.0, "Seconds a step waits for external replies; it goes on without them.")
    external_required: bool = _setting(False, "Stop the run when an external model fails, in place of going on.")
    external_seed: int = _setting(0, "Seed of the scripted replies, apart from the training seed.")
    external_when: str | dict[str, float] = field(
        default="always",
        metadata={"help": "Which prompts are asked: always, or {policy_pass_rate_below: x}: where the policy fails."},
    )
    external_prefetch_steps: int = _setting(4, "Steps whose prompts are asked ahead, where replies are kept; 0: none.")
    external_budget_usd: float | None = _setting(None, "Dollars that the store's ledger may ever reach; empty: no cap.")
    store_path: str = _setting("", "File of bought replies; empty: data/replies.sqlite, and scripted replies not kept.")
    store_read_only: bool = _setting(False, "Take replies from store_path alone and ask nobody.")
    selection: str = _setting("top_g", "How G of the pool's K candidates are kept: top_g (the paper) or max_variance.")
    max_external: int | None = _setting(None, "External candidates at most in a kept group; empty: no limit.")
    num_external_samples: int | None = _setting(None, "N of an external model without an n of its own; empty: N.")
    advantage_baseline: str = _setting("kept", "Whose mean reward is 0 advantage: kept (the paper), pool or policy.")
    external_weight: str = _setting(
        "uncorrected",
        "Factor on external advantages: uncorrected (1, the paper), is, snis, luffy; sft replaces them.",
    )
    weight_level: str = _setting("sequence", "is and snis: one weight per reply (sequence) or per token (token).")
    weight_proposal: str = _setting("own", "is and snis: weigh against the model that wrote it (own) or the mixture.")
    luffy_gamma: float = _setting(0.1, "luffy: gamma of p / (p + gamma).")
    sft_coef: float = _setting(0.1, "sft: advantage of an external reply that is right, times its accuracy.")

    share_vision: bool = _setting(True, "Preprocess and encode each distinct picture of a batch once, not G times.")
    share_prefix: bool = _setting(True, "Run each distinct prompt of a batch once, its completions packed behind it.")

    eval_temperature: float = _setting(0.1, "Sampling temperature in evaluation (Reason-RFT's).")
    eval_top_p: float = _setting(0.9, "Nucleus share in evaluation (Reason-RFT's).")
    eval_top_k: int = _setting(50, "Top-k cut in evaluation (Reason-RFT's).")
    eval_max_completion_length: int = _setting(768, "Tokens at most per reply in evaluation (Reason-RFT's).")
    eval_batch_size: int = _setting(64, "Rows evaluated at once.")

    curve_every: int = _setting(0, "Steps from one evaluation during training to the next (curve.jsonl); 0: none.")
    curve_rows: int = _setting(100, "Rows of each test set in those evaluations, the first ones.")
    log_candidates_every: int = _setting(50, "Steps from one entry of candidates.jsonl to the next; 0: none.")
    log_candidates_prompts: int = _setting(8, "Prompts at most that a process writes per entry, with their pools.")

    accelerate_config: str = _setting("zero2", "File in recipes/accelerate_configs used when several processes train.")
    argv: list[str] = field(
        default_factory=list, metadata={"help": "The command line that made this recipe; launch.py writes it."}
    )

    @property
    def num_samples(self) -> int:
        """N, the policy's candidates per prompt."""
        return self.num_policy_samples or self.num_generations  # pyright: ignore[reportAttributeAccessIssue]  # TRL's

    @property
    def teachers(self) -> list[ExternalModelConfig]:
        """The external models with their defaults filled in, in the recipe's order."""
        models = [ExternalModelConfig(**model) for model in self.external_models]
        default = self.num_external_samples or self.num_samples
        return [model if model.n else replace(model, n=default) for model in models]

    def synthetic_counts(self, test_sets: Iterable[str]) -> dict[str, int]:
        """Rows of each set that is made where `data_path` names none."""
        return {"train": self.num_train_rows or 2000} | dict.fromkeys(test_sets, self.num_test_rows or 300)
