# The production image: web, worker, beat and commands, told apart by the command line. It holds no database.
FROM python:3.13-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
# `--build-arg LOCK=otel` is the same with what traces need.
ARG LOCK=server
COPY requirements/${LOCK}.txt requirements/${LOCK}.txt
RUN pip install --require-hashes --requirement requirements/${LOCK}.txt
COPY manage.py pyproject.toml ./
COPY config config
COPY external_apis external_apis
COPY connections connections
COPY templates templates
# Settings want their variables even for collecting files; these are seen by nothing else.
RUN DATABASE_URL=postgresql://build REDIS_URL=redis://build SECRET_KEY=build JWT_SECRET=build-only-and-nothing-is-signed-with-it \
    ENCRYPTION_KEYS=build:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= \
    python manage.py collectstatic --no-input \
    && useradd --system --uid 10001 app \
    && install --directory --owner app --mode 0700 /var/lib/external-apis /var/lib/external-apis/spool
# Answers of token endpoints until they are committed: give every machine a volume here.
ENV SPOOL_DIR=/var/lib/external-apis/spool
VOLUME ["/var/lib/external-apis/spool"]
USER app
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", \
     "--blocking-threads", "96", "--respawn-failed-workers", "--no-ws", "config.wsgi:application"]
