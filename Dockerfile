# aibrixctl for Jobs and for `optimize serve`: Python, the tool and what it depends on, no more.
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY . /source
RUN python -m venv /opt/aibrixctl && /opt/aibrixctl/bin/pip install --no-cache-dir --no-compile /source

FROM python:3.12-slim
COPY --from=build /opt/aibrixctl /opt/aibrixctl
ENV PATH=/opt/aibrixctl/bin:$PATH PYTHONDONTWRITEBYTECODE=1
# Jobs that read devices set their own user; everything else runs as nobody.
USER 65534:65534
WORKDIR /tmp
ENTRYPOINT ["aibrixctl"]
