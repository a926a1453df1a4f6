# One image for both kinds of process: `python -m notifier` and `python -m api`.

FROM python:3.13-slim AS packages
WORKDIR /build
COPY requirements.lock pyproject.toml ./
# Every file is checked against the lock; of these only what the service needs is installed.
RUN pip download --quiet --no-cache-dir --require-hashes --dest wheels -r requirements.lock
RUN python -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['service'], sep='\n')" > wanted.txt
RUN python -m venv /venv \
    && /venv/bin/pip install --quiet --no-cache-dir --no-index --find-links wheels -r wanted.txt

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/jobcast --create-home jobcast
COPY --from=packages /venv /venv
WORKDIR /app
COPY LICENSE ./
COPY jobcast ./jobcast
COPY broker ./broker
COPY notifier ./notifier
COPY api ./api
COPY deploy ./deploy
ENV PATH="/venv/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    JOBCAST_HTTP_HOST=0.0.0.0 \
    JOBCAST_USERS_FILE=/var/lib/jobcast/users.toml
RUN python -m compileall -q jobcast broker notifier api deploy
USER jobcast
EXPOSE 8080
CMD ["python", "-m", "api"]
