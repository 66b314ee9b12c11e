# GNU make 3.81 or newer. Every path is relative: the checkout's own may hold spaces.

PYTHON = .venv/bin/python
LOCK = .venv/bin/python -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header --python-version 3.11 pyproject.toml

.PHONY: help run test check bench lock reset

help:
	@echo "make run     start everything on http://127.0.0.1:8000 (PORT=, VAR_DIR=, WEB_WORKERS= ... as in the README)"
	@echo "make test    the whole test suite, against real PostgreSQL and Valkey (ARGS= goes to pytest)"
	@echo "make check   format, lint, types, imports, deployment settings, migrations, known vulnerabilities"
	@echo "make bench   the benchmarks, with their ratios"
	@echo "make lock    resolve the dependencies anew into requirements/"
	@echo "make reset   empty the embedded data, after asking (FORCE=1 does not ask)"

# exec: make then waits for the supervisor itself, and the supervisor knows when make is gone.
run:
	@sh .ci/venv run
	@exec $(PYTHON) manage.py up --stop-with-parent

test:
	@sh .ci/venv dev
	@exec $(PYTHON) -m pytest --ignore=tests/bench -n 3 --dist worksteal $(ARGS)

check:
	@sh .ci/venv dev
	@sh .ci/check

bench:
	@sh .ci/venv dev
	@exec $(PYTHON) -m pytest tests/bench -s $(ARGS)

lock:
	@sh .ci/venv dev
	$(LOCK) --extra server --extra embedded --extra otel --group dev -o requirements/dev.txt
	$(LOCK) --extra server --extra embedded -c requirements/dev.txt -o requirements/run.txt
	$(LOCK) --extra server -c requirements/dev.txt -o requirements/server.txt
	$(LOCK) --extra server --extra otel -c requirements/dev.txt -o requirements/otel.txt

reset:
	@sh .ci/venv run
	@exec $(PYTHON) -m config.reset $(if $(FORCE),--force)
