# tickgen alone in an image: static, without a shell. Tested for amd64; for arm64 (docker build --platform linux/arm64)
# the program is built and run under QEMU by .ci/arm64; the image itself was built for amd64 alone.
# A change of src/ builds tickgen only; the dependencies are a layer of their own.
ARG BUILDER=docker.io/library/rust:1.95-bookworm

FROM ${BUILDER} AS build
WORKDIR /build
# Static glibc: name and host look-ups (files, DNS) are part of it.
ENV RUSTFLAGS="-C target-feature=+crt-static" CARGO_TERM_COLOR=never
ARG FEATURES=native-histograms,otlp
COPY Cargo.toml Cargo.lock ./
# An empty program with the same dependencies. A target must be named, or the flag is for build scripts, too.
RUN mkdir -p src benches/side_by_side \
    && touch src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && for bench in side_by_side/main instructions steps; do cp src/main.rs benches/$bench.rs; done \
    && cargo build --release --locked --features "$FEATURES" --target "$(rustc --print host-tuple)"
COPY src src
# Served by the program, so part of it.
COPY docs/openapi.json docs/
# Cargo goes by time stamps, and those of the checkout may be older than the empty program's.
RUN touch src/lib.rs src/main.rs \
    && cargo build --release --locked --features "$FEATURES" --target "$(rustc --print host-tuple)" \
    && cp "target/$(rustc --print host-tuple)/release/tickgen" /tickgen

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
