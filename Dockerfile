# tickgen alone in an image: static, without a shell. For amd64 and arm64 (docker build --platform linux/arm64), on
# either: compilers run on the machine's own processor, as emulated they take hours. Built by BuildKit (Docker 23 or newer,
# or DOCKER_BUILDKIT=1) or buildah.
# A change of src/ builds tickgen only; the dependencies are a layer of their own.
ARG BUILDER=docker.io/library/rust:1.95-bookworm

FROM --platform=$BUILDPLATFORM ${BUILDER} AS build
WORKDIR /build
ARG TARGETARCH
# What is compiled for, kept in a file; compiler and library for it, unless the base has them.
# hadolint ignore=DL3008
RUN case "$TARGETARCH" in \
        amd64) cpu=x86_64 package=x86-64 ;; \
        arm64) cpu=aarch64 package=aarch64 ;; \
        *) echo "no image for $TARGETARCH" >&2; exit 1 ;; \
    esac \
    && echo "$cpu-unknown-linux-gnu" >/target \
    && if ! command -v "$cpu-linux-gnu-gcc"; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends "gcc-$package-linux-gnu" "libc6-dev-$TARGETARCH-cross" \
        && rm -rf /var/lib/apt/lists/*; \
    fi \
    && if ! [ -d "$(rustc --print target-libdir --target "$(cat /target)")" ]; then rustup target add "$(cat /target)"; fi
# Static glibc: name and host look-ups (files, DNS) are part of it.
ENV RUSTFLAGS="-C target-feature=+crt-static" CARGO_TERM_COLOR=never \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
ARG FEATURES=native-histograms,otlp
COPY Cargo.toml Cargo.lock ./
# An empty program with the same dependencies. A target must be named, or the flags are for build scripts, too.
RUN mkdir -p src benches/side_by_side \
    && touch src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && for bench in side_by_side/main instructions steps; do cp src/main.rs benches/$bench.rs; done \
    && cargo build --release --locked --features "$FEATURES" --target "$(cat /target)"
COPY src src
# Served by the program, so part of it.
COPY docs/openapi.json docs/
# Cargo goes by time stamps, and those of the checkout may be older than the empty program's.
RUN touch src/lib.rs src/main.rs \
    && cargo build --release --locked --features "$FEATURES" --target "$(cat /target)" \
    && cp "target/$(cat /target)/release/tickgen" /tickgen

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tickgen" \
      org.opencontainers.image.description="Open-loop load generator for Amazon Kinesis Data Streams" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /tickgen /tickgen
USER 65532:65532
ENV TICKGEN_ADMIN_ADDR=0.0.0.0:9090
EXPOSE 9090
# Kept in the docker image format only; the OCI format has none, and Kubernetes has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/tickgen", "health"]
ENTRYPOINT ["/tickgen"]
