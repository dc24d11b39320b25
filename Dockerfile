# Workflow, library and command line with exactly the packages of requirements.lock:
#   docker build --tag dnagrinder .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:$PWD" --workdir "$PWD" dnagrinder dnagrinder --help
FROM python:3.11-slim-bookworm

# git: Snakemake reads workflows from repositories; g++: the CPU kernels are compiled on first use
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/dnagrinder
COPY requirements.lock pyproject.toml README.md LICENSE Snakefile ./
COPY workflow workflow
COPY kernels kernels
COPY rules rules
COPY envs envs
COPY profiles profiles
COPY config config
RUN pip install --no-cache-dir "$(grep '^torch==' requirements.lock)" \
    && pip install --no-cache-dir --no-deps --requirement requirements.lock \
    && pip install --no-cache-dir --no-deps --no-build-isolation --editable .

# The user of a container often has no home: caches, the compiled kernels among them, go to a folder that all may write
ENV HOME=/tmp
CMD ["dnagrinder", "--help"]
