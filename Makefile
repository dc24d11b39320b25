# make demo   score the embedded example with the embedded model and say where the reports are
# make test   run the test suite
# make lint   check style, types and workflow
# make clean  remove what these made, the virtual environment included
#
# Everything is installed into .venv, once, from requirements.lock. Needs Python 3.11 or newer with its venv module;
# another than python3 is named like this: make demo PYTHON=python3.12
#
# Two processes share the tests, file by file (each has one thread and about 4 GB): make test WORKERS=8 on a large machine.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test lint clean manifest

demo: $(INSTALLED)
	$(BIN)/snakemake --cores all
	@echo
	@echo "Done. Open in a browser:"
	@ls -1 $(CURDIR)/results/cohort/report.html $(CURDIR)/results/samples/*/report.html
	@echo "Scored variants (DG_SCORE and others in INFO):"
	@ls -1 $(CURDIR)/results/callsets/*/scored.vcf.gz

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile rules
	$(BIN)/snakemake --lint
	$(BIN)/snakemake --lint --snakefile workflow/Snakefile

clean:
	rm -rf $(VENV) results logs benchmarks .snakemake .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -rf .test/results .test/logs .test/benchmarks .test/.snakemake

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Say PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$$(grep '^torch==' requirements.lock)"
	$(PIP) --no-deps --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# The files of the library that a workflow imported from a remote repository has to bring along
manifest:
	find workflow/dnagrinder workflow/schemas kernels/dnagrinder_kernels -type f ! -path '*/__pycache__/*' \
		! -path '*/checkpoints/*' -o -path '*/checkpoints/*/card.json' | LC_ALL=C sort > workflow/manifest.txt
