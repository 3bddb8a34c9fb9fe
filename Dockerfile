# The Holdfast server. The server listens on all addresses of the container, and beyond loopback it starts only with a
# token:
#
#   docker build -t holdfast-server .
#   docker run -p 8420:8420 -v holdfast:/data -e HOLDFAST_TOKEN="$(openssl rand -hex 32)" holdfast-server

FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
RUN python -m venv /opt/holdfast \
    && /opt/holdfast/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt .

FROM python:3.11-slim
RUN groupadd --gid 10001 holdfast \
    && useradd --uid 10001 --gid holdfast --no-create-home --shell /usr/sbin/nologin holdfast \
    && install -d -o holdfast -g holdfast /data
COPY --from=build /opt/holdfast /opt/holdfast
ENV PATH=/opt/holdfast/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOLDFAST_ROOT=/data \
    HOLDFAST_HOST=0.0.0.0 \
    HOLDFAST_PORT=8420
USER 10001:10001
VOLUME /data
EXPOSE 8420
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['HOLDFAST_PORT']}/health/ready\", timeout=4)"]
CMD ["holdfast-server", "serve"]
