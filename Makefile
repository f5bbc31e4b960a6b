# The face of the project: `make help` lists the targets.
export BOATHOUSE_HOME := $(shell install/home)
PYTHON_MAIN = "$$BOATHOUSE_HOME/envs/main/bin/python"

.PHONY: help install bundle demo test bench lint docs down clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

install: ## install what is missing: packages, Python environments, XRootD; BUNDLE=FILE does so without a network
	@install/run $(if $(BUNDLE),--bundle "$(BUNDLE)")

bundle: ## write one file for BUNDLE= on machines like this one; TO=FILE names it
	@install/run --make-bundle "$(or $(TO),build/boathouse-bundle.tar.gz)"

demo: install ## the whole lake and an analysis on it; DATA="FILES…" takes ROOT files of your own
	@./boathouse demo $(DATA)

test: ## all tests, against real services, two files at a time; ARGS="-n 0 -k NAME" for some, one by one
	@install/run --tests
	@$(PYTHON_MAIN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	    tests/unit tests/services tests/facility tests/faults $(ARGS)

bench: ## measure beside the peers; ONLY=import for some of it, ONLY=--quick to see that it works
	@install/run --tests
	@$(PYTHON_MAIN) -m bench $(ONLY)

lint: install ## formatting, common mistakes, types
	@$(PYTHON_MAIN) -m ruff format --check .
	@$(PYTHON_MAIN) -m ruff check .
	@$(PYTHON_MAIN) -m mypy
	@$(PYTHON_MAIN) -m mypy install
	@$(PYTHON_MAIN) -m mypy bench
	@cd rucio-site && $(PYTHON_MAIN) -m mypy

docs: install ## write docs/reference from the code
	@$(PYTHON_MAIN) -I -m boathouse.cli.reference docs/reference

down: ## stop everything that was started
	@./boathouse down

clean: ## stop everything and remove all state
	@if [ -e "$$BOATHOUSE_HOME/state/state.json" ]; then ./boathouse logout; ./boathouse down --purge; fi
	@if [ -e boathouse-demo ]; then echo "removed boathouse-demo, the demo's samples and result"; fi
	@rm -rf "$$BOATHOUSE_HOME/state" build boathouse-demo

distclean: clean ## the same, and remove what was installed
	@rm -rf "$$BOATHOUSE_HOME"
