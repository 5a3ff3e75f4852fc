"""The project's own settings: every key that a recipe may hold beyond TRL's, its default, its help and its rule.

Importing TRL takes ten seconds: `launch.py` and its dry run need names, types and rules only, and answer without it.
`rules.Recipe` joins these keys to TRL's.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import ConfigDict, ValidationInfo, field_validator, model_validator

from open_r1.method.advantages import BASELINES
from open_r1.method.selection import SELECTIONS
from open_r1.recipe.keys import check_type, lora_keys, sft_keys
from open_r1.recipe.reading import Checked, Ruled, refused, said, setting
from open_r1.recipe.trl import NUCLEUS, check_refused, plain_no
from open_r1.schema import POLICY, UserError
from open_r1.tasks import TASKS, get_task
from open_r1.tasks.trance import TRANCE
from open_r1.utils.files import JsonObject, is_list, is_object
from open_r1.utils.names import unknown_name
from open_r1.utils.provenance import ROOT

GRACE_S = 30.0  # how far past the deadline a busy machine may deliver before the loop counts as blocked
RECIPES = ROOT / "recipes"

# The projections of the language model that an adapter is put on by default; the vision tower's have other names.
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Model = Literal["tiny", "2b", "7b"]
DataSize = Literal["tiny", "full"]
PromptKind = Literal["reasoning", "direct"]
ProviderName = Literal["scripted", "litellm"]
StageName = Literal["sft", "rl"]  # what a method may be made of, each at most once and in this order
ExternalWeight = Literal["uncorrected", "is", "snis", "luffy", "sft"]
WeightLevel = Literal["sequence", "token"]
WeightProposal = Literal["own", "mixture"]
LossLevel = Literal["token", "reply"]
MODELS: tuple[Model, ...] = get_args(Model)
PASS_RATE = "policy_pass_rate_below"  # the one key of external_when
NEVER: Ruled = {"rule": "it must be at least 0", "remedy": "0 warns never", "ge": 0}
SHARE: Ruled = {"rule": "it is a share in [0, 1]", "remedy": "write 68 % as 0.68", "ge": 0, "le": 1}
# What an external model's request is made of; extra_body may not set it again.
REQUEST_KEYS = {
    *("messages", "model", "n", "max_tokens", "max_completion_tokens", "temperature", "top_p", "logprobs", "stream"),
}


def recipe_names(folder: str) -> list[str]:
    """List the recipes in a folder below recipes/; of "methods" these are ["ans_sft", "cot_sft", ...]."""
    return sorted(path.stem for path in (RECIPES / folder).glob("*.yaml"))


class ExternalModelConfig(Checked):
    """One external model (teacher), as an entry of `external_models` describes it.

    Example: ExternalModelConfig(name="gpt-4o-scripted", accuracy=0.681).
    """

    name: str = setting("", "Source name of its candidates in metrics and figures; unique, and not 'policy'.")
    provider: ProviderName = setting(
        "scripted", "Who answers: 'scripted' from the row's ground truth, 'litellm' a real model."
    )
    n: int | None = setting(
        None,
        "Replies asked for per prompt (N of this source); empty: num_external_samples.",
        ge=1,
        remedy="leave the model out to ask it nothing",
    )
    timeout_s: float = setting(
        30.0,
        "Seconds after which a call counts as failed, its retries and pauses included.",
        gt=0,
        remedy="give seconds above 0",
    )
    logprobs: bool = setting(True, "Take log-probs where it gives them; external_weight is and snis need them.")
    same_tokenizer: bool = setting(False, "Whether it has the policy's tokenizer; weight_level token needs that.")
    scores: bool = setting(
        False, "Whether it can say how likely it finds others' replies (scripted, vLLM); weight_proposal mixture asks."
    )

    accuracy: float = setting(0.5, "Mean accuracy of its replies, in [0, 1].", only="scripted", **SHARE)
    accuracy_by_kind: dict[str, float] = setting(
        {}, "Accuracy for a question family, in place of `accuracy`.", only="scripted"
    )
    correlation: float = setting(
        0.0,
        "Correlation of being right between replies to a question, [0, 1).",
        only="scripted",
        ge=0,
        lt=1,
        rule="it lies in [0, 1)",
        remedy="give at most 0.99",
    )
    format_rate: float = setting(1.0, "Share of replies with both tags in place, in [0, 1].", only="scripted", **SHARE)
    fail_rate: float = setting(0.0, "Share of calls that fail, in [0, 1].", only="scripted", **SHARE)
    latency_s: float = setting(0.0, "Seconds that a call takes.", only="scripted", ge=0)

    model: str = setting("", "The model as litellm names it: gpt-4o-2024-11-20, hosted_vllm/NAME.", only="litellm")
    revision: str = setting(
        "", "Which weights answer, where `model` does not say it; another one buys anew.", only="litellm"
    )
    api_base: str = setting("", "Address of an own server, http://HOST:PORT/v1; empty: the provider's.", only="litellm")
    key_variable: str = setting("", "NAME of the environment variable that holds the key.", only="litellm")
    temperature: float | None = setting(None, "Sampling temperature; empty: the API's default.", only="litellm", ge=0)
    top_p: float | None = setting(
        None,
        "Nucleus share; empty: the API's default.",
        only="litellm",
        gt=0,
        le=1,
        rule="it is a share in (0, 1]",
        remedy="leave it out for the API's default",
    )
    max_tokens: int = setting(
        1024, "Tokens at most per reply, those of hidden reasoning included.", only="litellm", ge=1
    )
    n_per_request: int | None = setting(
        None, "Replies asked for in one request; empty: n where the API takes n, else 1.", only="litellm", ge=1
    )
    extra_body: JsonObject = setting({}, "Further keys of the request's body, as they are.", only="litellm")
    requests_per_minute: float | None = setting(
        None, "Rate limit kept on this side; empty: none.", only="litellm", ge=1
    )
    tokens_per_minute: float | None = setting(None, "The same in tokens, prompt and reply.", only="litellm", ge=1)
    concurrency: int = setting(64, "Requests under way at once.", only="litellm", ge=1)
    max_retries: int = setting(3, "Further attempts after a rate limit or a server's error.", only="litellm", ge=0)
    usd_per_million_in: float | None = setting(
        None, "Dollars per million prompt tokens; empty: litellm's price table.", only="litellm", ge=0
    )
    usd_per_million_out: float | None = setting(None, "The same for the reply's tokens.", only="litellm", ge=0)

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        if not self.name or self.name == POLICY:
            raise UserError(
                f"name '{self.name}' names no external source; names are unique, not empty, not '{POLICY}'; rename it"
            )
        return self

    @model_validator(mode="after")
    def _check_provider_reads_it(self) -> Self:
        for key, field in type(self).model_fields.items():
            only = said(field, "only")
            if key in self.model_fields_set and only not in ("", self.provider):
                raise UserError(
                    f"{key} is read by provider '{only}', but the provider is '{self.provider}'; leave it out, or set"
                    f" provider: {only}"
                )
        return self

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        for kind, share in self.accuracy_by_kind.items():
            if not 0 <= share <= 1:
                raise refused(f"accuracy_by_kind.{kind}", share, "it is a share in [0, 1]", "write 68 % as 0.68")
        return self

    @model_validator(mode="after")
    def _check_hosted(self) -> Self:
        """The settings of a real model by themselves; `external/hosted/ready.py` looks at keys, prices and servers."""
        if self.provider != "litellm":
            return self
        if not self.model:
            raise UserError("model is empty; provider litellm needs the model's name; write model: gpt-4o, say")
        if self.key_variable and not re.fullmatch("[A-Z][A-Z0-9_]*", self.key_variable):
            raise UserError(  # the value is not repeated: it may be a key
                "key_variable is no name of an environment variable (A-Z, 0-9, _); name the variable, as in"
                " OPENAI_API_KEY, and put the key into it"
            )
        if self.api_base and not re.match("https?://[^/]", self.api_base):
            raise UserError(f"api_base is '{self.api_base}'; it must begin with http:// or https://; correct it")
        if own := self.extra_body.keys() & REQUEST_KEYS:
            raise UserError(f"extra_body holds '{min(own)}', which this project sets; use its own setting")
        return self

    @model_validator(mode="after")
    def _check_prices(self) -> Self:
        if (self.usd_per_million_in is None) != (self.usd_per_million_out is None):
            one = "usd_per_million_out" if self.usd_per_million_in is None else "usd_per_million_in"
            raise UserError(f"{one} is one price of two; give both usd_per_million_in and usd_per_million_out, or none")
        return self

    @model_validator(mode="after")
    def _check_scores(self) -> Self:
        if not self.scores or self.provider != "litellm":
            return self
        if not (self.api_base and self.model.startswith("hosted_vllm/")):
            raise UserError(
                "scores is true, but only a vLLM server says how likely it finds others' replies; write model:"
                " hosted_vllm/NAME and its api_base, or leave scores out"
            )
        if self.usd_per_million_in or self.usd_per_million_out:
            raise UserError("scores is true, but no budget counts such calls; leave one of scores and prices out")
        return self


SFT_ROWS = sft_keys()["per_device_train_batch_size"].default
assert isinstance(SFT_ROWS, int), "TRL's default is written as a number"


class SFTSettings(Checked):
    """The setting `sft`: keys of TRL's SFTConfig, over what the sft stage shares with the run."""

    model_config = ConfigDict(extra="allow")

    per_device_train_batch_size: int = setting(SFT_ROWS, "TRL's.", ge=1)
    gradient_accumulation_steps: int | None = setting(None, "Micro-batches of a step; empty: what it takes.", ge=1)

    @classmethod
    def known_keys(cls) -> frozenset[str]:
        """Every key of SFTConfig."""
        return frozenset(sft_keys())

    @model_validator(mode="after")
    def _check_types(self) -> Self:
        check_refused(self.model_extra or {}, sft_keys())
        for key, value in (self.model_extra or {}).items():
            check_type(value, sft_keys()[key].types, key)
        return self


class LoraSettings(Checked):
    """The setting `lora`: keys of peft's LoraConfig, whose own types are too free to be checked by name."""

    model_config = ConfigDict(extra="allow")

    r: int = setting(
        0, "Rank of the adapter.", ge=1, rule="an adapter has a rank r of at least 1", remedy="give lora.r=64"
    )

    @classmethod
    def known_keys(cls) -> frozenset[str]:
        """Every key of LoraConfig."""
        return frozenset(lora_keys())

    @model_validator(mode="after")
    def _check_rank(self) -> Self:
        if "r" not in self.model_fields_set:
            raise UserError("r is left out; an adapter has a rank r of at least 1; give lora.r=64")
        return self


class Settings(Checked):
    """What the project adds to TRL's settings (axis letters: CONTRIBUTING.md)."""

    task: str = setting("clevr_math", "Task: clevr_math, geomath or trance.")
    model: Model = setting("tiny", "Policy: tiny (runs on a CPU), 2b or 7b (Qwen2-VL-Instruct).")
    method: str = setting("ekipl", "Method: a file in recipes/methods.")
    model_path: str = setting("", "Folder or hub id of the policy; empty for tiny: the base policy of base_path.")
    base_path: str = setting("", "Folder of the tiny base policy; empty: the task's own, made where it is missing.")
    max_pixels: int = setting(
        480_000, "Pictures are scaled down to at most this many pixels before the vision tower.", ge=1
    )

    data_path: str = setting("", "Folder, file of rows or hub id of the data; empty: synthetic data are made.")
    test_path: str = setting("", "The same of the test rows; empty: those of data_path, else a share held out of it.")
    test_share: float = setting(
        0.1,
        "Share of the rows that is held out for evaluation where data_path comes without test data.",
        gt=0,
        lt=1,
        rule="it is a share in (0, 1)",
        remedy="write 10 % as 0.1",
    )
    test_seed: int = setting(0, "Which rows are held out; apart from the training seed, so that seeds compare.")
    problem_key: str = setting("", "Column of the problem; empty: problem, question, query, messages, ...")
    answer_key: str = setting("", "Column of the answer, or of a list of which any counts; empty: answer, label, ...")
    images_key: str = setting("", "Column of the picture or pictures; empty: image, images, imgname, ...")
    choices_key: str = setting("", "Column of the choices, a list of texts; empty: choices, options.")
    id_key: str = setting("", "Column of the row's id; empty: id, question_id, qid, else file name and place.")
    data_size: DataSize = setting("tiny", "Size of the synthetic pictures: tiny or full.")
    num_train_rows: int | None = setting(None, "Training rows to make or to use; empty: all there are.", ge=1)
    num_test_rows: int | None = setting(None, "Rows to evaluate per test set; empty: all there are.", ge=1)
    skip_bad_rows: bool = setting(False, "Leave out rows that cannot be used (counted) in place of stopping.")

    prompt_kind: PromptKind = setting(
        "reasoning", "reasoning asks for think and answer tags, direct for the bare answer."
    )
    grader_setting: str = setting("", "The grader's variant in training; empty: the task's first.")
    eval_setting: str = setting("", "The grader's variant in evaluation; empty: partial where the task has it.")

    prompts_per_step: int | None = setting(
        None, "Prompts per optimizer step, over all processes; gradient_accumulation_steps follows from it.", ge=1
    )
    # TRL's, with another default, so that a given value differs from one that was not given.
    gradient_accumulation_steps: int | None = setting(
        None, "Micro-batches of a step; empty: see prompts_per_step.", ge=1
    )
    stages: list[StageName] = setting(["rl"], "The method's stages in order: sft, rl, both or none.")
    sft: SFTSettings = setting(
        SFTSettings(), "SFTConfig's settings of the sft stage, over what it shares with the run."
    )
    sft_rows: int | None = setting(
        None, "The first rows, for the sft stage; rl gets the others. Empty: all for both.", ge=1
    )
    sft_rows_again: bool = setting(False, "The rl stage trains on the rows of the sft stage as well.")
    lora: LoraSettings | None = setting(None, "peft.LoraConfig's settings, e.g. {r: 64}; empty trains every weight.")

    num_policy_samples: int | None = setting(
        None, "N: the policy's candidates per prompt; empty: num_generations.", ge=1
    )
    external_models: list[ExternalModelConfig] = setting(
        [], "The external models, see ExternalModelConfig; none is plain GRPO."
    )
    external_deadline_s: float = setting(
        60.0, "Seconds a step waits for external replies; it goes on without them.", gt=0, remedy="give seconds"
    )
    external_required: bool = setting(False, "Stop the run when an external model fails, in place of going on.")
    external_seed: int = setting(0, "Seed of the scripted replies, apart from the training seed.")
    external_when: Literal["always"] | dict[str, float] = setting(
        "always", "Which prompts are asked: always, or {policy_pass_rate_below: x}: where the policy fails."
    )
    external_prefetch_steps: int = setting(
        4,
        "Steps whose prompts are asked ahead, where replies are kept; 0: none.",
        ge=0,
        remedy="0 asks nothing ahead",
    )
    external_budget_usd: float | None = setting(
        None,
        "Dollars that the store's ledger may ever reach; empty: no cap.",
        ge=0,
        rule="it must be 0 or more dollars",
        remedy="leave out for no cap",
    )
    store_path: str = setting("", "File of bought replies; empty: data/replies.sqlite, and scripted replies not kept.")
    store_read_only: bool = setting(False, "Take replies from store_path alone and ask nobody.")
    selection: str = setting("top_g", "How G of the pool's K candidates are kept: top_g (the paper) or max_variance.")
    max_external: int | None = setting(None, "External candidates at most in a kept group; empty: no limit.")
    num_external_samples: int | None = setting(None, "N of an external model without an n of its own; empty: N.", ge=1)
    advantage_baseline: str = setting("kept", "Whose mean reward is 0 advantage: kept (the paper), pool or policy.")
    external_weight: ExternalWeight = setting(
        "uncorrected", "Factor on external advantages: uncorrected (1, the paper), is, snis, luffy; sft replaces them."
    )
    weight_level: WeightLevel = setting(
        "sequence", "is and snis: one weight per reply (sequence) or per token (token)."
    )
    weight_proposal: WeightProposal = setting(
        "own", "is and snis: weigh against the model that wrote it (own) or the mixture."
    )
    weight_max: float | None = setting(
        10.0,
        "is: most that a weight may be; empty: e^20, which is no bound in practice.",
        gt=0,
        remedy="leave it out for 10",
    )
    luffy_gamma: float = setting(0.1, "luffy: gamma of p / (p + gamma).", gt=0)
    sft_coef: float = setting(0.1, "sft: advantage of an external reply that is right, times its accuracy.", gt=0)

    loss_level: LossLevel = setting(
        "token", "Ratios of tokens, averaged over a reply (token), or of whole replies, as Eq. 2-3 read (reply)."
    )

    share_vision: bool = setting(True, "Preprocess and encode each distinct picture of a batch once, not G times.")
    share_prefix: bool = setting(True, "Run each distinct prompt of a batch once, its completions packed behind it.")

    eval_temperature: float = setting(0.1, "Sampling temperature in evaluation (Reason-RFT's).", ge=0)
    eval_top_p: float = setting(0.9, "Nucleus share in evaluation (Reason-RFT's).", **NUCLEUS)
    eval_top_k: int = setting(50, "Top-k cut in evaluation (Reason-RFT's).", ge=0)
    eval_max_completion_length: int = setting(768, "Tokens at most per reply in evaluation (Reason-RFT's).", ge=1)
    eval_rows_at_once: int = setting(64, "Rows evaluated at once.", ge=1)

    curve_every: int = setting(
        0,
        "Steps from one evaluation during training to the next (curve.jsonl); 0: none.",
        ge=0,
        rule="it must be at least 0",
        remedy="0 does it never",
    )
    curve_rows: int = setting(100, "Rows of each test set in those evaluations, the first ones.", ge=1)
    log_candidates_every: int = setting(
        50,
        "Steps from one entry of candidates.jsonl to the next; 0: none.",
        ge=0,
        rule="it must be at least 0",
        remedy="0 does it never",
    )
    log_candidates_prompts: int = setting(8, "Prompts at most that a process writes per entry, with their pools.", ge=1)

    strict: bool = setting(False, "End the run, after a checkpoint, at the first warning (docs/METRICS.md).")
    warn_silent_steps: int = setting(3, "Warn when every call of a teacher failed for so many steps.", **NEVER)
    warn_format_steps: int = setting(5, "Warn when no reply of a source had both tags for so many steps.", **NEVER)
    warn_dead_steps: int = setting(20, "Warn when no group had an advantage for so many steps.", **NEVER)
    warn_flat_steps: int = setting(20, "Warn when the policy's accuracy or reward stayed for so many steps.", **NEVER)
    warn_kl: float = setting(2.0, "Warn when kl/policy is above so many nats per token.", **NEVER)

    accelerate_config: str = setting(
        "zero2",
        "File in recipes/accelerate_configs used when several processes train; on CPUs ddp where none is given.",
    )
    argv: list[str] = setting([], "The command line that made this recipe; launch.py writes it.")

    @field_validator("task", "method", "accelerate_config", "selection", "advantage_baseline")
    @classmethod
    def _check_name(cls, name: str, info: ValidationInfo) -> str:
        valid = {
            "task": lambda: TASKS,
            "method": lambda: recipe_names("methods"),
            "accelerate_config": lambda: recipe_names("accelerate_configs"),
            "selection": lambda: SELECTIONS,
            "advantage_baseline": lambda: BASELINES,
        }[str(info.field_name)]()
        if name not in valid:
            raise unknown_name(str(info.field_name), name, valid)
        return name

    @field_validator("external_models", mode="before")
    @classmethod
    def _read_external_models(cls, entries: object) -> object:
        if not is_list(entries):
            return entries  # pydantic says that it must be a list
        models: list[ExternalModelConfig] = []
        for index, entry in enumerate(entries):
            where = f"external_models[{index}]"
            if not is_object(entry):
                raise refused(where, entry, "it must be a mapping with at least `name`", "write `- name: ...`")
            model = ExternalModelConfig.read(entry, where)
            if model.name in (other.name for other in models):
                raise UserError(f"{where}.name '{model.name}' is used twice; names are unique; rename it")
            models.append(model)
        return models

    @field_validator("sft", "lora", mode="before")
    @classmethod
    def _read_handed_on(cls, values: object, info: ValidationInfo) -> object:
        model = SFTSettings if info.field_name == "sft" else LoraSettings
        values = plain_no(values) if is_object(values) else values
        if values == {} and model is LoraSettings:
            return None
        return model.read(values, str(info.field_name)) if is_object(values) else values

    @field_validator("external_when", mode="before")
    @classmethod
    def _check_when(cls, when: object) -> object:
        share = when.get(PASS_RATE) if is_object(when) and list(when) == [PASS_RATE] else None
        if when != "always" and (not isinstance(share, int | float) or not 0 < share <= 1):
            rule = f"it is `always` or {{{PASS_RATE}: x}} with 0 < x <= 1"
            raise refused("external_when", when, rule, f"write e.g. {{{PASS_RATE}: 0.5}}")
        return when

    @model_validator(mode="after")
    def _check_grader(self) -> Self:
        variants = get_task(self.task).settings
        for key, name in (("grader_setting", self.grader_setting), ("eval_setting", self.eval_setting)):
            if name not in ("", *variants):
                raise unknown_name(key, name, variants)
        return self

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        stages, order = self.stages, get_args(StageName)
        if stages != [stage for stage in order if stage in stages]:
            raise UserError(
                f"stages is {stages}; each stage comes at most once, {' before '.join(order)}; reorder them"
            )
        if self.external_models and stages == ["sft"]:
            raise UserError(
                f"stages is {stages} with external models; only the rl stage asks them; set external_models: []"
            )
        if self.prompt_kind == "direct" and "rl" in stages:
            raise UserError(
                "prompt_kind is direct with an rl stage, whose reward asks for tags; set prompt_kind: reasoning"
            )
        return self

    @model_validator(mode="after")
    def _check_store(self) -> Self:
        if self.store_read_only and not self.store_path:
            raise UserError("store_read_only is true without store_path; name the file whose replies are to be taken")
        return self

    @model_validator(mode="after")
    def _check_weight_is_read(self) -> Self:
        """A setting of one kind of weight under another kind would do nothing."""
        readers = {"weight_level": ("is", "snis"), "weight_proposal": ("is", "snis")}
        readers |= {"weight_max": ("is",), "luffy_gamma": ("luffy",), "sft_coef": ("sft",)}
        for key, kinds in readers.items():
            value = getattr(self, key)
            if self.external_weight not in kinds and value != type(self).model_fields[key].default:
                raise UserError(
                    f"{key} is {value!r}, but external_weight '{self.external_weight}' does not read it; leave it out,"
                    f" or set external_weight to {' or '.join(kinds)}"
                )
        return self

    @model_validator(mode="after")
    def _check_loss_level(self) -> Self:
        """A reply that has one ratio has no weights of its tokens."""
        weighs_tokens = self.external_weight == "luffy" or self.weight_level == "token"
        if self.loss_level == "reply" and weighs_tokens:
            raise UserError(
                f"external_weight '{self.external_weight}' weighs tokens, but with loss_level 'reply' a reply has one"
                " ratio; set loss_level: token"
            )
        return self

    @model_validator(mode="after")
    def _check_weight_is_known(self) -> Self:
        """Every number that a weight needs must exist."""
        kind = self.external_weight
        for index, model in enumerate(self.external_models if kind in ("is", "snis") else ()):
            where = f"external_models[{index}] '{model.name}'"
            if not model.logprobs:
                raise UserError(
                    f"{where} gives no log-probs (logprobs: false), and external_weight '{kind}' needs them of every"
                    " external model; leave logprobs out where its API returns them, or set external_weight to luffy"
                )
            if model.provider == "scripted" and self.task == TRANCE.name:
                raise UserError(
                    f"{where} is scripted, and on {TRANCE.name} scripted models do not know their log-probs;"
                    f" external_weight '{kind}' is for the other tasks there; set luffy or uncorrected"
                )
            if self.weight_level == "token" and not model.same_tokenizer:
                raise UserError(
                    f"{where} has a tokenizer of its own, and weight_level 'token' needs log-probs of the policy's"
                    " tokens; set weight_level: sequence, or same_tokenizer: true where the two are the same"
                )
        return self

    @property
    def ask_below(self) -> float | None:
        """The policy's pass rate below which external models are asked about a prompt; None: always."""
        return None if self.external_when == "always" else self.external_when[PASS_RATE]

    @property
    def training_grader(self) -> str:
        """The grader's variant in training."""
        return self.grader_setting or get_task(self.task).settings[0]

    @property
    def evaluation_grader(self) -> str:
        """The grader's variant in evaluation: published TRANCE numbers are means of partial scores (docs/DATA.md)."""
        variants = get_task(self.task).settings
        return self.eval_setting or ("partial" if "partial" in variants else variants[0])

    @property
    def untrained(self) -> str:
        """The policy that training begins with: a folder, or a hub id. A run's folder stands for the model in it."""
        path = self.model_path or self.base_path or str(ROOT / "bases" / self.task)
        trained = Path(path) / "model"
        return str(trained) if (Path(path) / "recipe.yaml").is_file() and trained.is_dir() else path

    def synthetic_counts(self, test_sets: Iterable[str]) -> dict[str, int]:
        """Rows of each set that is made where `data_path` names none."""
        return {"train": self.num_train_rows or 2000} | dict.fromkeys(test_sets, self.num_test_rows or 300)
