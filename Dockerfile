# Taskcast's server with all its adapters. Build it at the top of the repository: docker build --tag taskcast .

ARG BASE=python:3.13-slim-trixie

# hadolint ignore=DL3006
FROM ${BASE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /build
COPY requirements.lock ./
# Only uv is installed by pip; like everything that uv installs then, it is what the lock's hashes say.
RUN sed -n '/^uv==/,/[^\\]$/p' requirements.lock > uv.txt \
    && python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps --requirement uv.txt
COPY taskcast-core taskcast-core
COPY taskcast-redis taskcast-redis
COPY taskcast-postgres taskcast-postgres
COPY taskcast-sentry taskcast-sentry
COPY taskcast-server taskcast-server
RUN uv venv --no-project --python "$(command -v python)" /opt/taskcast \
    && uv pip install --python /opt/taskcast/bin/python \
        --constraints requirements.lock --build-constraints requirements.lock \
        ./taskcast-core ./taskcast-server ./taskcast-redis ./taskcast-postgres ./taskcast-sentry \
    && /opt/taskcast/bin/taskcast --version

# hadolint ignore=DL3006
FROM ${BASE}
LABEL org.opencontainers.image.title="Taskcast" \
      org.opencontainers.image.description="Tasks that run long, followed live, resumed exactly." \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 taskcast \
    && useradd --uid 10001 --gid taskcast --home-dir /data --no-create-home --shell /usr/sbin/nologin taskcast \
    && install --directory --owner taskcast --group taskcast --mode 0750 /data
COPY --from=build /opt/taskcast /opt/taskcast
# A configuration is looked for in /etc/taskcast; without one, tasks are kept in /data/taskcast/taskcast.db.
ENV PATH=/opt/taskcast/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TASKCAST_HOST=0.0.0.0 \
    TASKCAST_PORT=3721 \
    TASKCAST_CONFIG_DIR=/etc/taskcast \
    XDG_STATE_HOME=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 3721
STOPSIGNAL SIGTERM
# The same as `taskcast ping`, at a tenth of its price.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-I", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['TASKCAST_PORT'] + '/health', timeout=4)"]
ENTRYPOINT ["taskcast"]
CMD ["start"]
