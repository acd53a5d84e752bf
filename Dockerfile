# The harness on Linux as root, for isolation `full` with the flags in docs/container.md.
FROM python:3.11-slim

# A C++ compiler, for submissions that call torch.compile: docker build --build-arg COMPILER=g++
ARG COMPILER=""
RUN if [ -n "$COMPILER" ]; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends "$COMPILER" \
        && rm -rf /var/lib/apt/lists/*; \
    fi

# torch and torchvision are asked for together, by plain names, so that they fit each other, and before the code, so that
# a new image is quick.
RUN pip install --no-cache-dir --root-user-action=ignore torch torchvision

# The code lies outside /usr, which submissions see. Baselines and the template are read from beside it.
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY harness harness
COPY data_prep data_prep
COPY baselines baselines
COPY submissions submissions
COPY benchmarks/results/baselines-digits.json benchmarks/results/
RUN pip install --no-cache-dir --root-user-action=ignore --editable ".[cluster]"

# Tracks, calibrations and results: mount a folder or a volume there.
ENV HARNESS_HOME=/data

# As root: each run gets a user of its own, and only root can give it one.
USER root
ENTRYPOINT ["harness"]
CMD ["--help"]
