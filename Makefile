# Mbegu's commands; `make help` lists them. Each installs what it needs into .venv by itself, once.
# A target of its own: <name>: $(HAS)/base+train, with the extras of pyproject.toml it runs on, and its
# options passed by $(call options,…) as in `report`; what it cannot do without is in NEEDS_<name>.

.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
MAKEFLAGS += --no-print-directory
# Installs share one .venv, and `generate` checks its options before it installs.
.NOTPARALLEL:

# --- What the user gives ------------------------------------------------------------------------
# Read from make's command line only: the shell's own LANG is a locale ("en_US.UTF-8"), and a MODEL or
# RUN left in the environment by other work should not steer this. Each goes on to the recipes as
# MBEGU_<name>, its text as it was typed: $(value) keeps make from expanding it, and the recipes use
# it quoted, so nothing in it is taken for make's or the shell's syntax. The variables themselves
# are held back, since make would expand them on export, and LANG=sw is no locale.
GIVEN := LANG CORPUS PAIRS RUN RUNS ADDRESS ENGINE MODEL CONFIG SEED DRY_RUN TASK TASKS PROMPT N \
         BENCH DATA TO PUSH TRAINING RELEASE ARGS
unexport $(GIVEN)
given = $(if $(filter command%,$(origin $1)),$(value $1))
# A misspelt one would otherwise be passed over without a word.
STRANGE := $(foreach name,$(filter-out $(GIVEN) PYTHON UV_% PIP_% MAKE% -%,$(.VARIABLES)),$(if \
             $(filter command%,$(origin $(name))),$(name)))
ifneq ($(strip $(STRANGE)),)
$(error There is no option $(firstword $(STRANGE))=. The options are: $(GIVEN). See make help)
endif
$(foreach name,$(GIVEN),$(eval export MBEGU_$(name) := $$(call given,$(name))))

# $(call options,lang:LANG …) is shell text: "$@" becomes --lang="$MBEGU_LANG" … for those given.
options = set --; $(foreach pair,$1,$(call option,$(subst :, ,$(pair))))
option = [ -z "$$MBEGU_$(word 2,$1)" ] || set -- "$$@" --$(word 1,$1)="$$MBEGU_$(word 2,$1)";

# RUNS is a key of the profile, and has no flag.
runs = [ -z "$$MBEGU_RUNS" ] || set -- "$$@" --set "runs=$$MBEGU_RUNS";
GENERATION := lang:LANG corpus:CORPUS pairs:PAIRS run:RUN engine:ENGINE model:MODEL config:CONFIG seed:SEED dry-run:DRY_RUN

# The same in front of the words that "$@" already holds.
prepend = $(foreach pair,$1,$(call optional,$(subst :, ,$(pair))))
optional = [ -z "$$MBEGU_$(word 2,$1)" ] || set -- --$(word 1,$1)="$$MBEGU_$(word 2,$1)" "$$@";

# What a command cannot do without; <name>: needs-<name> asks for it before anything is installed. In
# front of the colon is what ARGS may have in its place, and a plus stands for a space.
NEEDS_submit := $(if $(call given,CONFIG),,--lang:LANG=<code>) \
  $(if $(value RAY_API_SERVER_ADDRESS),,--address:ADDRESS=http://<head>:8265) \
  $(if $(call given,CONFIG)$(call given,DRY_RUN),,runs:RUNS=/<shared>/runs)
NEEDS_report := --run:RUN=<name>
NEEDS_export := --run:RUN=<name> --to:TO=<trainer>
NEEDS_train := --run:RUN=<name> $(if $(call given,CONFIG),,model:MODEL=<model> data:DATA=runs/<run>)
NEEDS_merge := --help:ARGS="OUT+MODEL+MODEL"
NEEDS_evaluate := --model:MODEL=<folder> $(if $(call given,TASKS),,--:DATA=<folder>)
NEEDS_ablate := --config:CONFIG=<matrix>
NEEDS_probe := --run:RUN=<name>
NEEDS_release := --run:RUN=<name>
NEEDS_reproduce := --release:RELEASE=<folder>
parts = $(subst :, ,$(firstword $(subst =, ,$1)))
shown = $(subst +, ,$(strip $(foreach need,$1,$(patsubst $(firstword $(call parts,$(need))):%,%,$(need)))))
is_met = $(call given,$(lastword $(call parts,$1)))$(findstring $(firstword $(call parts,$1)),$(call \
           given,ARGS))$(filter -h --help,$(call given,ARGS))
missing = $(call shown,$(foreach need,$1,$(if $(call is_met,$(need)),,$(need))))
NEEDY := $(patsubst NEEDS_%,needs-%,$(filter NEEDS_%,$(.VARIABLES)))

# Texts are UTF-8 whatever the shell's locale is.
export LC_ALL := C.UTF-8
export PYTHONUTF8 := 1
# Without bytecode every process that imports vLLM would spend half a minute on compiling it again.
unexport PYTHONDONTWRITEBYTECODE

# --- Installing ---------------------------------------------------------------------------------
# uv doesn't read pip's PIP_CERT; SSL_CERT_FILE it does.
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif

# $(HAS)/base+train stands once what it names is installed; see .ci/install.py, which makes it.
HAS := .venv/.has
PINS := pyproject.toml pipelines/constraints.txt pipelines/overrides.txt \
        pipelines/overrides-cpu.txt .ci/install.py
# The Python that .venv points to may have been upgraded away since.
PINS += $(if $(shell [ -x $(PY) ] && echo there),,no-python)

# The other engines need no more than the base; object stores have an extra of their own.
GENERATE := base$(if $(filter vllm,$(call given,ENGINE)),+vllm)$(if $(findstring ://,$(call \
              given,CORPUS)$(call given,RUNS)),+cluster)

define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$($(PYTHON) --version 2>&1 | head -n 1); \
	  echo "Mbegu needs Python 3.11 or newer, and PYTHON=$(PYTHON) gave: $$found." \
	    "Name one that is: make $(firstword $(MAKECMDGOALS)) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) .ci/install.py $(subst +, ,$*)
endef

$(HAS)/%: $(PINS)
	$(install)

# --- Commands -----------------------------------------------------------------------------------
.PHONY: help setup generate submit preview lint-prompts languages filters report export train merge e2e \
        evaluate ablate probe release reproduce lint fmt test bench lock clean language-given \
        model-given bench-given no-python $(NEEDY)

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 } \
	  /^##   / { sub("^##   ", ""); printf "  %-12s %s\n", "", $$0 }' Makefile
	@echo "  PYTHON=python3.12 names the Python that .venv is made of; UV_TORCH_BACKEND=cpu in the"
	@echo "  environment takes torch without CUDA from PyTorch's own index."

setup: $(HAS)/$(GENERATE) ## install what generate needs, and run nothing: make setup [ENGINE=vllm]
	@echo "Ready: make generate LANG=<code>"

generate: language-given model-given $(HAS)/$(GENERATE) ## make data for a language: make generate LANG=sw
##   [CORPUS= PAIRS= RUN= RUNS= ENGINE= MODEL= CONFIG= SEED= DRY_RUN=1 ARGS="--set key=value"];
##   ENGINE=vllm installs vLLM, too
	@eval "set -- $$MBEGU_ARGS"; $(runs) $(call prepend,$(GENERATION)) $(PY) -m pipelines.generate "$$@"

submit: language-given model-given needs-submit $(HAS)/base+cluster ## the same on a Ray cluster: make submit LANG=sw ADDRESS=http://head:8265 RUNS=/shared/runs
##   [and all that generate takes]; shows what the job prints, and ends as it does
	@eval "set -- $$MBEGU_ARGS"; $(runs) $(call prepend,address:ADDRESS $(GENERATION)) \
	$(PY) -m pipelines.submit "$$@"

preview: language-given $(HAS)/base ## show what prompts say: make preview LANG=sw PROMPT=short_query
##   [TASK= PROMPT= N= MODEL= SEED=]; N samples of each, MODEL= counts tokens by its tokenizer
	@eval "set -- $$MBEGU_ARGS"; $(call prepend,lang:LANG task:TASK prompt:PROMPT n:N model:MODEL seed:SEED) \
	$(PY) -m pipelines.preview "$$@"

lint-prompts: $(HAS)/base ## check every prompt in every language: file:line: what is wrong
	@eval "set -- $$MBEGU_ARGS"; $(PY) -m pipelines.lint_prompts "$$@"

languages: $(HAS)/base ## list languages, scripts, detectors: make languages [ARGS="hausa --json"]
	@eval "set -- $$MBEGU_ARGS"; $(PY) -m pipelines.languages "$$@"

filters: $(HAS)/base ## list what filters ask, their reasons and settings: make filters [ARGS=mixed_script]
	@eval "set -- $$MBEGU_ARGS"; $(PY) -m pipelines.filters "$$@"

report: needs-report $(HAS)/base ## show what a run made, as one page: make report RUN=sw, or two: RUN=a,b
	@$(call options,run:RUN) $(PY) -m pipelines.report "$$@"

export: needs-export $(HAS)/base ## hand a run to a trainer: make export RUN=sw TO=sentence-transformers
##   or automodel, flagembedding, tevatron, beir, hf [PUSH=<owner>/<name> DRY_RUN=1 ARGS=]
	@eval "set -- $$MBEGU_ARGS"; $(call prepend,run:RUN to:TO push:PUSH dry-run:DRY_RUN) \
	$(PY) -m pipelines.export "$$@"

train: needs-train $(HAS)/base+train ## train an embedder: make train RUN=<name> MODEL=<model> DATA=runs/<run>
##   [CONFIG= SEED= ARGS=]; DATA=runs/a,runs/b; the model is then in trainings/<RUN>/model
	@eval "set -- $$MBEGU_ARGS"; $(call prepend,run:RUN model:MODEL data:DATA config:CONFIG seed:SEED) \
	$(PY) -m pipelines.train "$$@"

merge: needs-merge $(HAS)/base+train ## merge models: make merge ARGS="OUT MODEL MODEL … [--method ties]"
	@eval "set -- $$MBEGU_ARGS"; $(PY) -m embedtrain.merge "$$@"

e2e: language-given $(HAS)/base+train+evaluate+test ## the whole road on a CPU: make e2e LANG=sw CORPUS=<documents>
##   [DATA=<evaluation folders> MODEL= RUN= ARGS=]: generate, train, merge, export, evaluate
	@eval "set -- $$MBEGU_ARGS"; $(call prepend,lang:LANG corpus:CORPUS data:DATA model:MODEL run:RUN) \
	$(PY) -m pipelines.e2e "$$@"

evaluate: needs-evaluate $(HAS)/base+train+evaluate ## measure models: make evaluate MODEL=<folder>[,<folder>] DATA=<folder>
##   [TASKS=<mteb names> ARGS=]; DATA is in BEIR's layout or a table; two models are compared
	@eval "set -- $$MBEGU_ARGS"; $(call prepend,model:MODEL data:DATA tasks:TASKS) \
	$(PY) -m pipelines.evaluate "$$@"

ablate: needs-ablate $(HAS)/base+train+evaluate+test ## which data, losses, merges help: make ablate CONFIG=<matrix>
##   [CORPUS= MODEL= RUN= ARGS=]; tables with intervals in ablations/<RUN>; see ablate_strategies
	@eval "set -- $$MBEGU_ARGS"; $(call prepend,config:CONFIG corpus:CORPUS model:MODEL run:RUN) \
	$(PY) -m pipelines.ablate "$$@"

probe: needs-probe $(HAS)/base+train+evaluate+test ## rank a run's prompts, models, strategies: make probe RUN=sw
##   [DATA=<evaluation folders> MODEL= PAIRS= ARGS=]; their shares as a profile in probes/<RUN>
	@eval "set -- $$MBEGU_ARGS"; $(call prepend,run:RUN data:DATA model:MODEL pairs:PAIRS) \
	$(PY) -m pipelines.probe "$$@"

release: needs-release $(HAS)/base+train+evaluate ## a run in one checksummed folder: make release RUN=sw
##   [TRAINING= DATA=<evaluation folders>]: data, weights, measurements, how to make them again
	@$(call options,run:RUN training:TRAINING data:DATA) $(PY) -m pipelines.release "$$@"

reproduce: needs-reproduce $(HAS)/base+train+evaluate ## make a release again and compare: make reproduce RELEASE=<folder>
##   [CORPUS= MODEL=]: where the documents and the model it began with are, if elsewhere
	@$(call options,release:RELEASE corpus:CORPUS model:MODEL) $(PY) -m pipelines.reproduce "$$@"

$(NEEDY): needs-%:
	@$(if $(call missing,$(NEEDS_$*)),echo 'make $* lacks $(call missing,$(NEEDS_$*)). The command is:' \
	  'make $* $(call shown,$(NEEDS_$*)); make help lists its options' >&2; exit 2)

model-given:
	@[ "$$MBEGU_ENGINE" != vllm ] || [ -n "$$MBEGU_MODEL$$MBEGU_CONFIG$$MBEGU_ARGS" ] || { \
	  echo "ENGINE=vllm needs a model: give MODEL=<hub id or folder>" >&2; exit 2; }

language-given:
	@[ -n "$$MBEGU_LANG$$MBEGU_CONFIG" ] || { \
	  echo "Which language? Give its code:"; \
	  echo "  make $(firstword $(MAKECMDGOALS)) LANG=<code>"; \
	  echo "For example:"; \
	  echo "  make $(firstword $(MAKECMDGOALS)) LANG=sw"; \
	  echo "make languages lists codes, make help the other options."; \
	  echo "(The LANG of your shell is its locale, so only one given to make counts.)"; \
	  exit 2; } >&2

lint: $(HAS)/base+dev ## ruff and mypy, changing nothing
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy sdg embedtrain pipelines tests/bench

fmt: $(HAS)/base+dev ## format the code and mend what ruff can
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

# The tests may call make themselves: this make's options are none of theirs. Most wait for processes
# to start, so two files at a time; more would wait for the processors.
test: $(HAS)/base+train+evaluate+vllm+cluster+test ## run the tests: make test [ARGS="-k word tests/test_x.py"]
	@unset MAKEFLAGS MFLAGS MAKELEVEL; eval "set -- $$MBEGU_ARGS"; \
	[ $$# -gt 0 ] || set -- --numprocesses 2 --dist loadfile; $(PY) -m pytest "$$@"

bench: bench-given $(HAS)/base+train+evaluate+vllm+cluster+test+bench ## measure beside peers: make bench BENCH=<name>
##   [DATA=<folder> ARGS=]; the names are files in tests/bench, the last line is ratio=…
	@eval "set -- $$MBEGU_ARGS"; $(call prepend,data:DATA) $(PY) -m "tests.bench.$$MBEGU_BENCH" "$$@"

bench-given:
	@[ -f "tests/bench/$$MBEGU_BENCH.py" ] || { \
	  echo "Which benchmark? make bench BENCH=<name>, one of:" \
	    $(patsubst tests/bench/%.py,%,$(shell grep -l 'ratio=' tests/bench/*.py)); exit 2; } >&2

lock: ## pin anew what pyproject.toml asks for; ARGS=--upgrade moves to the newest
	$(install)
	@eval "set -- $$MBEGU_ARGS"; .venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	  --all-extras --override pipelines/overrides.txt --no-annotate \
	  --custom-compile-command "make lock" "$$@" \
	  --output-file pipelines/constraints.txt pyproject.toml

clean: ## remove .venv, caches and build leftovers; never runs/
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	@find sdg embedtrain pipelines tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
