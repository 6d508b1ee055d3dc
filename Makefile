# The two commands: `make book` and `make test`. Each sets up what it needs.

PYTHON ?= python3
VENV ?= .venv
# Where pip looks for torch first: builds for the CPU, gigabytes smaller than those with CUDA.
# Empty (`make book TORCH_INDEX=`) takes the build that the usual index offers.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
NOTEBOOKS ?= $(wildcard book/*.ipynb)
WORKERS ?= 2

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
READY := $(VENV)/.ready
# With torch's own index out of reach, pip must give up at once.
TORCH_PIP := install --quiet --no-deps --index-url $(TORCH_INDEX) --retries 0 --timeout 10
# What torch needs on Linux with CUDA alone: its build for the CPU does without.
CUDA := cuda-bindings cuda-toolkit nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 \
  nvidia-nvshmem-cu13 triton
UV_VERSION := 0.13.9
# The canary does without Jupyter Book's own extensions, and asks itself for the others.
ENGINE := jupyter_book sphinx_book_theme sphinx_comments sphinx_jupyterbook_latex sphinx_thebe
BROUGHT := sphinx-copybutton sphinx-design sphinx-external-toc sphinx-multitoc-numbering \
  sphinx-togglebutton sphinxcontrib-bibtex

.PHONY: book test check format notebooks pdf serve site-test site-breakages site-extras newest links \
  address check-address mutants soak rounding extras clean lock canary floor

book: $(READY)
	$(BIN)/jupyter-book build . -W -n --keep-going

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest --nbval -n $(WORKERS) --dist loadfile

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Runs of the same notebook on the same machine leave an empty diff.
notebooks: $(READY)
	printf '%s\n' $(NOTEBOOKS) | TQDM_DISABLE=1 xargs -P $(WORKERS) -n 1 \
	  $(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level WARN \
	  --ExecutePreprocessor.record_timing=False
	$(BIN)/jupyter nbconvert --to notebook --inplace --coalesce-streams --log-level WARN \
	  $(NOTEBOOKS)
	$(BIN)/nbstripout --keep-output --keep-count --keep-id \
	  --extra-keys "cell.metadata.execution metadata.language_info.version metadata.widgets \
	  metadata.jupytext" \
	  $(NOTEBOOKS)

# Builds, prints the pages, and builds again, so that they link to the PDF.
pdf: book site-extras
	$(BIN)/python book/_ext/pdf.py
	$(MAKE) book

# Opens every page in a real browser.
site-test: pdf
	$(BIN)/pytest tests/site -n $(WORKERS)

# Breaks a copy of the built site in many ways, one at a time: each must make a test fail.
site-breakages: site-test
	$(BIN)/python -m tests.site.breakages

# Builds again and reloads the browser whenever a file changes.
serve: site-extras
	$(BIN)/jupyter-book config sphinx .
	PYTHONPATH=book/_ext $(BIN)/sphinx-autobuild . _build/html --open-browser \
	  --ignore "*/_build/*" --ignore "*/.git/*" --ignore "*/.venv*"

# Tests and builds with the newest versions that are allowed, in an environment of their own.
newest:
	$(PYTHON) -m venv .venv-newest
	mkdir -p _build
	sed -e 's/==/>=/' -e 's/^jupyter-book.*/&,<2/' requirements.txt > _build/newest.txt
	.venv-newest/bin/python -m pip install --quiet --upgrade -r _build/newest.txt
	touch .venv-newest/.ready
	$(MAKE) test book VENV=.venv-newest

# Asks every host that the book links to.
links: $(READY)
	$(BIN)/jupyter-book build . --builder linkcheck

# Writes another public address wherever it stands: REPOSITORY, or that of the remote `origin`.
address: $(READY)
	$(BIN)/python book/_ext/address.py $(REPOSITORY)

# Refuses to publish with the address of another repository.
check-address: $(READY)
	$(BIN)/python book/_ext/address.py --check $(REPOSITORY)

# The same pages without Jupyter Book, by the newest Sphinx and MyST-NB: our exit, if Jupyter
# Book 1 ends. The stored outputs are shown as they are.
canary: $(READY)
	$(BIN)/jupyter-book config sphinx .
	printf "extensions.remove('%s')\n" $(ENGINE) >> conf.py
	$(PYTHON) -m venv --clear .venv-canary
	mkdir -p _build
	sed -n -e '/^# What the package/,/^$$/p' -e '/^# What builds/,/^$$/s/==.*//p' requirements.txt \
	  | grep -v jupyter-book > _build/canary.txt
	$(call install-torch,.venv-canary/bin,_build/canary.txt)
	.venv-canary/bin/python -m pip install --quiet -r _build/canary.txt $(BROUGHT) -e .
	PYTHONPATH=book/_ext .venv-canary/bin/sphinx-build -W -n --keep-going \
	  -D nb_execution_mode=off . _build/canary

# The package's own tests with the oldest versions that it allows. Old releases may use what newer
# ones deprecate. The pages and the benchmarks have pinned versions.
floor:
	$(PYTHON) -m venv --clear .venv-floor
	mkdir -p _build
	$(PYTHON) -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	  print(*project['dependencies'], sep='\n')" | sed 's/>=/==/' > _build/floor.txt
	sed -n '/^# What tests/,/^$$/p' requirements.txt >> _build/floor.txt
	$(call install-torch,.venv-floor/bin,_build/floor.txt)
	.venv-floor/bin/python -m pip install --quiet -r _build/floor.txt -e .
	OMP_NUM_THREADS=1 .venv-floor/bin/pytest tests -n $(WORKERS) -W default::DeprecationWarning \
	  --ignore tests/test_address.py --ignore tests/test_apparatus.py --ignore tests/test_benchmarks.py

# Everything that requirements.txt leads to, on every system and Python, with the hashes of the
# files. Versions that still fit stay as they are; delete the locks to have the newest.
lock: export UV_CUSTOM_COMPILE_COMMAND = make lock
lock: LOCK = .venv-uv/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 \
  --generate-hashes --no-emit-package transformer-book
lock:
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet uv==$(UV_VERSION)
	mkdir -p _build
	printf '%s\n' $(CUDA) > _build/cuda.txt
	$(LOCK) --excludes _build/cuda.txt requirements.txt -o requirements.lock
	grep '^torch==' requirements.txt | $(LOCK) -c requirements.lock - -o requirements-cuda.lock

# Installs torch alone, in the version of a file of requirements, where there is a build for the
# CPU; elsewhere what follows installs it.
define install-torch
@if [ "$$(uname)" = Linux ] && [ -n "$(TORCH_INDEX)" ]; then \
  $(1)/python -m pip $(TORCH_PIP) $$(grep '^torch==' $(2)) 2>/dev/null \
  || echo "No torch from $(TORCH_INDEX); the usual index will do."; \
fi
endef

$(READY): requirements.lock requirements-cuda.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(call install-torch,$(BIN),requirements.txt)
	@cuda="-r requirements-cuda.lock"; \
	if $(BIN)/python -m pip freeze | grep -q '^torch==.*+cpu'; then cuda=; fi; \
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock $$cuda
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $@

# Deliberate bugs, each injected into a copy of the package: each must make a test fail.
mutants: $(READY)
	$(BIN)/python -m tests.mutations

# Kills processes at random moments, again and again, and compares what they come to.
soak: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests -m soak

# Runs the tests that train, and every notebook, as other processors would, with noise in
# the weights, and with other seeds: some hours. It goes on where it was interrupted.
# `make rounding ONLY="noise-1"` runs some of these conditions, and stores nothing;
# `make rounding SUBJECTS="09_addition"` runs them all for some notebooks, and keeps the rest.
rounding: $(READY)
	$(BIN)/python -m benchmarks.rounding $(if $(ONLY),--conditions $(ONLY),--store) \
	  $(if $(SUBJECTS),--subjects $(SUBJECTS))

# What only benchmarks and the tests of the export use.
extras: $(READY)
	$(BIN)/python -m pip install --quiet -r benchmarks/requirements.txt

# What prints the book, serves it while somebody writes, and tests it in a browser. A
# browser is installed only where there is none.
site-extras: $(READY)
	$(BIN)/python -m pip install --quiet -r tests/site/requirements.txt
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  $(BIN)/playwright install chromium

# make benchmark-decoding, benchmark-training, benchmark-learning, benchmark-parts, benchmark-heads,
# benchmark-anatomy, benchmark-tasks, benchmark-improving, benchmark-loading, benchmark-marian,
# benchmark-live, benchmark-book
benchmark-%: extras
	$(BIN)/python -m benchmarks.$*

clean:
	rm -rf _build
