# Everything a newcomer needs: make demo, make test.  Both set up what is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PLUGINS := plugins/gw plugins/lensing plugins/popsources plugins/fields
DISTRIBUTIONS := core $(PLUGINS)
RUNS ?= runs

.PHONY: install demo test docs validate bench wheels clean

install: $(VENV)/.installed

# the processor build of PyTorch where the package index has one; a CUDA build works as well
$(VENV)/.installed: constraints.txt $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable './core[dask,export]' \
		$(addprefix --editable ./,$(PLUGINS)) pytest pytest-xdist ruff dynesty scikit-learn \
		mypy types-PyYAML hypothesis hatchling
	touch $@

demo: install
	$(BIN)/tmnre run gw/demo --out $(RUNS)/gw-demo
	@echo "open $(RUNS)/gw-demo/report.html"

test: install
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# tutorials are run on the way; any warning is an error
docs: install
	$(BIN)/pip install --quiet --constraint constraints.txt zensical 'mkdocstrings[python]' latex2mathml
	$(BIN)/python docs/build.py
	$(BIN)/zensical build --clean --strict
	@echo "open site/index.html"

# long checks against independent answers; writes validation/results
validate: install
	TMNRE_FUZZ=10000 TMNRE_SLOW=1 $(BIN)/pytest tests/fuzz tests/examples tests/suite/test_all_plugins.py
	$(BIN)/python validation/kills.py
	$(BIN)/python validation/linear_gaussian.py
	$(BIN)/python validation/sbibm.py
	$(BIN)/python validation/gw_demo.py
	$(BIN)/python validation/gw150914.py
	$(BIN)/python validation/gw_injections.py
	$(BIN)/python validation/gw_exact.py --event --injections 1 2 3
	$(BIN)/python validation/gw_events.py
	$(BIN)/python validation/gw_nested.py --sample --runs $(RUNS)
	$(BIN)/python validation/gw_nested.py --runs $(RUNS)
	$(BIN)/python validation/gw_overlapping.py
	$(BIN)/python validation/lensing_exact.py demo
	$(BIN)/python validation/lensing_exact.py mock
	$(BIN)/pip install --quiet --no-deps lenstronomy==1.14.2
	$(BIN)/python validation/lensing_lenstronomy.py demo
	$(BIN)/python validation/lensing_lenstronomy.py mock
	$(BIN)/python validation/lensing_slacs.py
	$(BIN)/python validation/lensing_subhalo.py --snr 50 100
	$(BIN)/python validation/lensing_warm.py
	$(BIN)/python validation/popsources_exact.py --observations 5
	$(BIN)/python validation/popsources_gce.py --runs $(RUNS)
	$(BIN)/python validation/fields_wiener.py --runs $(RUNS)/fields_wiener
	$(BIN)/python validation/fields_expgrf.py --runs $(RUNS)/fields_expgrf
	$(BIN)/python validation/fields_expgrf.py --runs $(RUNS)/fields_expgrf --pixels 64 --sequential 0 --draws 4800
	$(BIN)/python validation/fields_lss.py --runs $(RUNS)/fields_lss
	$(BIN)/python validation/fields_separation.py --runs $(RUNS)/fields_separation
	$(BIN)/python validation/fields_spectrum.py --runs $(RUNS)/fields_spectrum
	$(BIN)/python validation/fields_wmap.py --runs $(RUNS)/fields_wmap

bench: install
	$(BIN)/python benchmarks/training_throughput.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/store_scaling.py
	$(BIN)/python benchmarks/training_from_disk.py
	$(BIN)/python benchmarks/gw_throughput.py
	$(BIN)/python benchmarks/lensing_throughput.py
	$(BIN)/python benchmarks/popsources_simulator.py
	$(BIN)/python benchmarks/fields_samplers.py
	$(BIN)/python benchmarks/fields_nifty.py --runs $(RUNS)/fields_nifty
	$(BIN)/python benchmarks/table.py

wheels: install
	$(BIN)/pip install --quiet build
	for d in . $(DISTRIBUTIONS); do $(BIN)/python -m build --wheel --outdir dist $$d || exit 1; done

clean:
	rm -rf $(VENV) dist build site
