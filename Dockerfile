# qad-jax on a CPU, in two images: the service, which is built unless another is named, and the
# command, for files that should be read without a network and without root. docs/container.md has
# the rest.
#
#   docker build --tag qad-jax-serve .
#   docker run --rm --init --read-only --tmpfs /tmp:size=2g --cap-drop ALL \
#       --env QAD_JAX_TOKEN --publish 127.0.0.1:8000:8000 qad-jax-serve
#
#   docker build --target command --tag qad-jax .
#   docker run --rm --init --network none --user "$(id -u):$(id -g)" \
#       --volume /path/to/data:/data --volume /path/to/runs:/runs \
#       qad-jax train --config quickstart --workdir /runs/quickstart --config.dataset.data_dir=/data

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /source
RUN python -m venv /opt/qad-jax
ENV PATH=/opt/qad-jax/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY configs configs
COPY data_builders data_builders
COPY qad_jax qad_jax
# The last stages get this environment, which needs no installer any more.
RUN pip wheel --no-deps --wheel-dir /dist . \
    && pinned=requirements/py$(python -c 'import sys; print("%d%d" % sys.version_info[:2])').txt \
    && pip install --constraint "$pinned" "$(ls /dist/*.whl)[serve]" \
    && pip uninstall --yes pip setuptools

FROM python:${PYTHON}-slim AS base
RUN useradd --create-home --uid 1000 qad \
    && install --directory --owner=qad /data /runs
COPY --from=build /opt/qad-jax /opt/qad-jax
# Caches lie where any user may write: --user gives the files in /runs to the one who asks for them.
ENV PATH=/opt/qad-jax/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache
USER 1000
ENTRYPOINT ["qad-jax"]

FROM base AS command
WORKDIR /runs
VOLUME ["/data", "/runs"]
CMD ["--help"]

# It writes to /tmp alone, and what waits there fits into a tmpfs of 2 GB. In a container every
# address is open to others, so it wants a token: in QAD_JAX_TOKEN, or in a file that --token_file
# names. The check must not import what lies in a folder that others write to, hence -I. It has
# no --start-interval, which Podman 4 refuses and Docker knows from 25 on.
FROM base AS serve
WORKDIR /
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=10s --start-period=180s --retries=6 CMD ["python", "-I", "-c", "import http.client; asked = http.client.HTTPConnection('127.0.0.1', 8000, timeout=5); asked.request('GET', '/healthz'); raise SystemExit(asked.getresponse().status != 200)"]
CMD ["serve", "--host=0.0.0.0", "--port=8000", "--max_mb=200", "--max_disk_mb=1000"]
