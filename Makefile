# Everything a user does, one target each; `make help` lists them. Nothing but python3, make and git has to be there.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install install-gpu train plan collect store test check data check-data download base ablation eval report gallery reproduce clean

# What to train, and on what; each may be given on the command line: make train TASK=trance MODEL=2b DRY_RUN=1
TASK ?= clevr_math
MODEL ?= tiny
METHOD ?= ekipl
TEACHERS ?=
SEED ?=
MODEL_PATH ?=
DATA_PATH ?=
TEST_PATH ?=
OUTPUT ?=
SIZE ?= tiny
N ?=
ARGS ?=
# The GPUs that `make plan` fits a run into: how many, of how many GiB each.
GPUS ?= 8
MEM ?= 80
# What to buy of external models ahead of training (make collect), and where bought replies come from (make store)
MODELS ?=
BUDGET ?=
FROM ?=
SETTLE ?=
DRY_RUN ?=
# What to evaluate (make eval): which sets, how many replies a row, who answers; and for make report: which runs;
# for make gallery: which run, and which of its steps
SPLIT ?= all
K ?= 1
BACKEND ?= hf
EXTERNAL ?=
RUNS ?=
RUN ?=
STEPS ?=
# Which tests: by default those that take seconds and need neither GPU nor network; MARK=slow takes the slow ones.
MARK ?= not slow and not gpu and not network
# Two files of tests at once; the slow ones use all cores by themselves.
SPREAD = $(if $(findstring not slow,$(MARK)),-n 2 --dist loadfile)

PYTHON ?= python3
UV_VERSION := 0.13.9
PY := .venv/bin/python
STAMP := .venv/.installed
# option(name,variable): --name "value" when the variable is set
option = $(if $($(2)),--$(1) "$($(2))")

# What may be given on the command line; anything else would be dropped without a word.
KNOWN := TASK MODEL METHOD TEACHERS SEED MODEL_PATH DATA_PATH TEST_PATH OUTPUT SIZE N ARGS GPUS MEM MODELS BUDGET FROM \
	SETTLE DRY_RUN SPLIT K BACKEND EXTERNAL RUNS RUN STEPS MARK SHAPE PYTHON
GIVEN := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(v)))),$(v)))
UNKNOWN := $(filter-out $(KNOWN) SHELL SPREAD PY UV_VERSION -% .% MAKE%,$(GIVEN))
ifneq ($(UNKNOWN),)
$(error unknown variable $(firstword $(UNKNOWN)); valid: $(KNOWN)$(shell $(PYTHON) -c 'import difflib, sys; \
	near = difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2:], 1, .6); \
	print("; did you mean " + near[0] + "?" if near else "; a setting is given as ARGS=\"--learning_rate 1e-4\"")' \
	'$(firstword $(UNKNOWN))' $(KNOWN)))
endif

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "  Variables: TASK=clevr_math|geomath|trance MODEL=tiny|2b|7b METHOD=ekipl|grpo|... SEED MODEL_PATH DATA_PATH OUTPUT"
	@echo "  TEACHERS=gpt-4o-gemini|vllm asks real external models (recipes/teachers); without it they are scripted."
	@echo '  DRY_RUN=1 shows a run without starting it; ARGS="--learning_rate 1e-6" overrides any setting.'
	@echo '  make plan TASK=trance MODEL=7b GPUS=8 MEM=80; on a cluster: slurm/README.md'

install: $(STAMP)  ## make .venv with everything in setup.py (again only when setup.py changes)

# uv, not pip: torch and torchvision must come together from the index, where pip may prefer a local torch without it.
$(STAMP): setup.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "$$($(PYTHON) --version 2>&1) is not Python 3.11, 3.12 or 3.13; give one that is: make PYTHON=python3.11 ..." >&2; exit 2; }
	@start=$$SECONDS; set -e; \
	test -x $(PY) || $(PYTHON) -m venv .venv; \
	$(PY) -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	.venv/bin/uv pip install --python $(PY) -e '.[dev]'; \
	echo $$((SECONDS - start)) > .venv/.install_seconds; touch $@

install-gpu: $(STAMP)  ## add vllm, deepspeed and flash-attn, in the versions of constraints/
	@.venv/bin/uv pip install --python $(PY) --no-build-isolation-package flash-attn -e '.[dev,gpu]' \
		-c constraints/gpu-py$$($(PY) -c 'import sys; print("%d%d" % sys.version_info[:2])').txt

train: $(STAMP)  ## train TASK with MODEL by METHOD into runs/<time>-... (DRY_RUN=1: show only)
	@$(PY) -m open_r1.launch --task "$(TASK)" --model "$(MODEL)" --method "$(METHOD)" $(call option,seed,SEED) \
		$(call option,teachers,TEACHERS) \
		$(call option,model_path,MODEL_PATH) $(call option,data_path,DATA_PATH) $(call option,test_path,TEST_PATH) \
		$(call option,output_dir,OUTPUT) \
		$(if $(filter-out 0 no false,$(DRY_RUN)),--dry_run) $(ARGS)

plan: $(STAMP)  ## memory, tokens, hours and dollars of a run of TASK with MODEL on GPUS of MEM GiB; refuses what cannot fit
	@$(PY) -m open_r1.cli.plan --task "$(TASK)" --model "$(MODEL)" --method "$(METHOD)" --gpus "$(GPUS)" --mem "$(MEM)" \
		$(call option,model_path,MODEL_PATH) $(call option,teachers,TEACHERS) $(ARGS)

collect: $(STAMP)  ## ask the external models ahead of training and keep what they say (MODELS=a,b N=rows BUDGET=5 DRY_RUN=1)
	@$(PY) -m open_r1.generate --task "$(TASK)" --model "$(MODEL)" $(call option,teachers,TEACHERS) \
		$(call option,models,MODELS) $(call option,rows,N) $(call option,budget,BUDGET) \
		$(call option,data_path,DATA_PATH) $(call option,test_path,TEST_PATH) \
		$(if $(filter-out 0 no false,$(DRY_RUN)),--dry_run) $(ARGS)

.PHONY: teachers
teachers: $(STAMP)  ## ask each of TEACHERS one question about one picture: reply, tokens, cost, seconds (DRY_RUN=1: only look)
	@$(PY) -m open_r1.cli.teachers --task "$(TASK)" --model "$(MODEL)" $(call option,teachers,TEACHERS) \
		$(call option,budget,BUDGET) $(call option,data_path,DATA_PATH) \
		$(if $(filter-out 0 no false,$(DRY_RUN)),--dry_run) $(ARGS)

store: $(STAMP)  ## show what was bought (TASK=t OUTPUT=x.parquet hands on, FROM=x.parquet takes over, SETTLE=model=dollars)
	@$(PY) -m open_r1.cli.store $(if $(or $(filter-out %.sqlite %.db,$(OUTPUT)),$(FROM),$(filter command,$(origin TASK))),--task "$(TASK)") \
		$(call option,output,OUTPUT) $(call option,from,FROM) $(call option,settle,SETTLE) $(ARGS)

eval: $(STAMP)  ## evaluate MODEL or MODEL_PATH on TASK's test sets (SPLIT=id|ood|all K=64 BACKEND=hf|vllm|api EXTERNAL=name)
	@$(PY) -m open_r1.evaluate --task "$(TASK)" --model "$(MODEL)" --split "$(SPLIT)" --k "$(K)" --backend "$(BACKEND)" \
		$(call option,model_path,MODEL_PATH) $(call option,data_path,DATA_PATH) $(call option,test_path,TEST_PATH) $(call option,seed,SEED) \
		$(call option,output,OUTPUT) $(call option,teachers,TEACHERS) $(call option,external,EXTERNAL) $(ARGS)

report: $(STAMP)  ## Table 1 beside the paper's and figures 3, 4, 5 of RUNS="runs/a runs/b", or of a folder of runs
	@$(PY) -m open_r1.cli.report $(RUNS) $(call option,output,OUTPUT) $(ARGS)

gallery: $(STAMP)  ## one HTML file of RUN=runs/<run>: pictures, candidates, rewards (STEPS="1 20 60" N=prompts OUTPUT=file)
	@$(PY) -m open_r1.cli.gallery "$(RUN)" $(if $(STEPS),--steps $(STEPS)) $(call option,prompts,N) \
		$(call option,output,OUTPUT) $(ARGS)

reproduce: $(STAMP)  ## every number of docs/RESULTS.md about the methods: hours; goes on after a stop
	@$(PY) scripts/reproduce.py $(ARGS)

test: $(STAMP)  ## run the fast tests (MARK=slow: the slow ones)
	@$(PY) -m pytest -m "$(MARK)" $(SPREAD) $(ARGS)

# DeepSpeed in an environment of its own: it is an extra, and what needs it must not rot where it is not installed.
SCALE_STAMP := .venv-scale/.installed
$(SCALE_STAMP): $(STAMP) setup.py
	@test -x .venv-scale/bin/python || .venv/bin/uv venv --quiet --python $(PY) .venv-scale
	@.venv/bin/uv pip install --python .venv-scale/bin/python -e '.[dev,deepspeed,rehearse]' \
		-c constraints/gpu-py$$($(PY) -c 'import sys; print("%d%d" % sys.version_info[:2])').txt
	@.venv-scale/bin/python -c 'import deepspeed' && touch $@

.PHONY: rehearse
LAYERS ?=
rehearse: $(SCALE_STAMP)  ## go through a true-size run with random weights (MODEL=2b|7b LAYERS=2; on GPUs all layers)
	@PATH=$(CURDIR)/.venv-scale/bin:$$PATH .venv-scale/bin/python -m open_r1.cli.rehearse --task "$(TASK)" \
		--model "$(if $(filter tiny,$(MODEL)),2b,$(MODEL))" $(call option,layers,LAYERS) $(call option,output,OUTPUT) $(ARGS)

.PHONY: test-scale
test-scale: $(SCALE_STAMP)  ## whole runs under DeepSpeed and several processes, on the CPU (about ten minutes)
	@PATH=$(CURDIR)/.venv-scale/bin:$$PATH .venv-scale/bin/python -m pytest -m scale tests/scale $(ARGS)

check: $(STAMP)  ## style, format, types, and the order of imports
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
	@.venv/bin/pyright
	@PYTHONPATH=src .venv/bin/lint-imports

data: $(STAMP)  ## make synthetic data for TASK (SIZE=tiny|full, N=rows, OUTPUT=folder) and a contact sheet
	@$(PY) -m open_r1.cli.make_data --task "$(TASK)" --size "$(SIZE)" $(call option,n,N) $(call option,seed,SEED) \
		$(call option,output,OUTPUT) $(ARGS)

.PHONY: bench
SHAPE ?= tiny
bench: $(STAMP)  ## measure a training step against TRL's own trainer (SHAPE=tiny|small|2b; 2b needs a GPU)
	@$(PY) scripts/benchmark_update.py --shape "$(SHAPE)" $(ARGS)

check-data: $(STAMP)  ## count and check every row of DATA_PATH, a folder or one JSON file
	@$(PY) -m open_r1.cli.check_data --data_path "$(DATA_PATH)" \
		$(if $(filter command,$(origin TASK)),--task "$(TASK)") $(ARGS)

download: $(STAMP)  ## fetch the Reason-RFT-CoT data set from the Hugging Face hub
	@$(PY) -m open_r1.cli.download $(call option,output,OUTPUT) $(ARGS)

base: $(STAMP)  ## make the tiny base policy of TASK again
	@$(PY) -m open_r1.sft --base --task "$(TASK)" $(call option,seed,SEED) $(ARGS)

ablation: $(STAMP)  ## selection x baseline x weights x teachers: hours; goes on after a stop
	@$(PY) scripts/study_ablation.py $(ARGS) && $(PY) scripts/results_page.py

clean:  ## remove caches; runs, data and .venv stay
	@rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist src/*.egg-info
	@find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
