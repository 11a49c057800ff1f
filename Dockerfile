# qad-jax on a CPU, for files that should be read without a network and without root:
#
#   docker build --tag qad-jax .
#   docker run --rm --network none --user "$(id -u):$(id -g)" \
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
# The environment that the last stage gets holds no installer.
RUN pip wheel --no-deps --wheel-dir /dist . \
    && pinned=requirements/py$(python -c 'import sys; print("%d%d" % sys.version_info[:2])').txt \
    && pip install --constraint "$pinned" /dist/*.whl \
    && pip uninstall --yes pip setuptools

FROM python:${PYTHON}-slim
RUN useradd --create-home --uid 1000 qad \
    && install --directory --owner=qad /data /runs
COPY --from=build /opt/qad-jax /opt/qad-jax
# Caches lie where any user may write: --user gives the files in /runs to the one who asks for them.
ENV PATH=/opt/qad-jax/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache
USER 1000
WORKDIR /runs
VOLUME ["/data", "/runs"]
ENTRYPOINT ["qad-jax"]
CMD ["--help"]
