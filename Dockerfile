# The Holdfast server. It listens on all addresses of the container, so it needs a token: the first start makes one and
# puts it into /data/.admin-token.
#
#   docker build -t holdfast-server .
#   docker run -p 8420:8420 -v holdfast:/data -e HOLDFAST_ALLOWED_HOSTS=checkpoints.example holdfast-server
#   docker exec CONTAINER cat /data/.admin-token

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
    HOLDFAST_PORT=8420 \
    HOLDFAST_ADMIN_TOKEN_FILE=/data/.admin-token
USER 10001:10001
VOLUME /data
EXPOSE 8420
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['HOLDFAST_PORT']}/health/ready\", timeout=4)"]
CMD ["holdfast-server", "serve"]
