# syntax=docker/dockerfile:1
# Two stages: build with Rust, run on a slim base. Both bases are arguments, for mirrors and other distributions:
#   docker build --build-arg BUILDER_IMAGE=... --build-arg RUNTIME_IMAGE=... -t ringkeeper .
# The runtime image must carry a glibc at least as new as the builder's.
ARG BUILDER_IMAGE=rust:1-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${BUILDER_IMAGE} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends git protobuf-compiler \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# `ringkeeper --version` tells the commit; .git stays outside the build context, so it comes in as an argument.
ARG RINGKEEPER_COMMIT=unknown
ENV RINGKEEPER_COMMIT=${RINGKEEPER_COMMIT}
# The directories are made here and copied with their owner, so that the runtime stage runs no command at all and
# may be an image without a shell.
RUN cargo build --release --locked --bin ringkeeper \
 && mkdir -p /stage/data /stage/datalog /stage/conf

FROM ${RUNTIME_IMAGE}
COPY --from=build /src/target/release/ringkeeper /usr/local/bin/ringkeeper
# 1000, as in the official ZooKeeper image, so that mounted directories keep their owner.
COPY --from=build --chown=1000:1000 /stage/ /
USER 1000:1000
# The same variables and places as the official image.
ENV ZOO_CONF_DIR=/conf \
    ZOO_DATA_DIR=/data \
    ZOO_DATA_LOG_DIR=/datalog
VOLUME ["/data", "/datalog"]
EXPOSE 2181 2888
# No HEALTHCHECK: orchestrators have their own, and `ruok` over a TCP probe needs nothing inside the image.
ENTRYPOINT ["/usr/local/bin/ringkeeper"]
CMD ["serve"]
