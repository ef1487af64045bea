# The server on a CPU. Pin the base image of a release: --build-arg BASE_DIGEST=sha256:...
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG BASE_DIGEST=

FROM ${BASE_IMAGE}${BASE_DIGEST:+@${BASE_DIGEST}} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY deploy/container/install.sh deploy/container/
COPY serve serve
COPY export export
COPY training training
COPY model_repository model_repository
RUN ["deploy/container/install.sh", "/src", "/opt/actserve", "cpu"]

FROM ${BASE_IMAGE}${BASE_DIGEST:+@${BASE_DIGEST}}
LABEL org.opencontainers.image.title="actserve" \
      org.opencontainers.image.description="Zero-shot video action recognition as a server" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 actserve \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin actserve \
 && install -d -o 10001 -g 10001 /data /cache
COPY --from=build /opt/actserve /opt/actserve
COPY deploy/container/healthcheck.py /opt/actserve/healthcheck.py
ENV PATH=/opt/actserve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SERVE_HOST=0.0.0.0 \
    SERVE_DATA_DIR=/data \
    SERVE_CACHE_DIR=/cache \
    SERVE_UPLOAD_DIR=/tmp \
    SERVE_LOG_FORMAT=json
WORKDIR /data
USER 10001:10001
# the root file system may be read-only: only these are written
VOLUME ["/data", "/cache", "/tmp"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "/opt/actserve/healthcheck.py"]
ENTRYPOINT ["actserve"]
CMD ["serve"]
