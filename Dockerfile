# The CPU image: everything that README's quick start and the tests need.
#   docker build -t vision-ekipl .  &&  docker run --rm vision-ekipl
# For GPUs begin from an image with the CUDA toolkit (flash-attn is compiled) and a Python of setup.py's range, e.g.
# nvidia/cuda:13.0.1-devel-ubuntu24.04, run `make install-gpu` in place of `make install`, and start with --gpus all.
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends make git && rm -rf /var/lib/apt/lists/*
WORKDIR /vision-ekipl
COPY . .
RUN make install
CMD ["make", "test"]
