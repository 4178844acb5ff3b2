# The server in a container: docs/container.md.
#
#   docker build --build-arg EXTRAS=serve .                  in front of a vLLM or another server; no torch
#   docker build .                                           models in this process, on the CPU
#   docker build --build-arg TORCH_BACKEND=cu128 .           models in this process, on CUDA
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
ARG EXTRAS=serve,local
# A torch backend of uv: cpu, cu126, cu128, …
ARG TORCH_BACKEND=cpu
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt uv \
    && uv venv /opt/p2r \
    && uv pip install --no-cache --python /opt/p2r/bin/python --constraint constraints.txt \
        --torch-backend "${TORCH_BACKEND}" --compile-bytecode ".[${EXTRAS}]"

FROM python:${PYTHON}-slim-bookworm
RUN useradd --uid 10001 --create-home p2r
COPY --from=build /opt/p2r /opt/p2r
ENV PATH=/opt/p2r/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /home/p2r
EXPOSE 8100
# Shows that the process runs; /readyz, for a proxy or an orchestrator, shows whether the models answer.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8100/healthz', timeout=2)"]
ENTRYPOINT ["p2r"]
# A container is reached from outside, so keys are required: a file with one key a line.
CMD ["serve", "--host", "0.0.0.0", "--api-key-file", "/run/secrets/p2r_keys"]
