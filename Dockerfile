# The operator's image: one static binary and the CA certificates.
#
#   docker build -t iamrole-operator .
#   docker buildx build --platform linux/amd64,linux/arm64 -t iamrole-operator .
#
# Each architecture builds natively (the other one of the second line under
# emulation): musl-gcc, which ring's C and assembly need, makes code for its own
# architecture only. RUST_IMAGE is any Debian with gcc and rustup; hack/image
# gives one that it made itself where no engine is at hand.
ARG RUST_IMAGE=rust:1.95.0-bookworm

FROM ${RUST_IMAGE} AS build
ARG TARGETARCH
ENV CARGO_INCREMENTAL=0 TARGET_CC=musl-gcc
WORKDIR /build
RUN case "${TARGETARCH:-$(uname -m)}" in \
      amd64 | x86_64) echo x86_64-unknown-linux-musl ;; \
      arm64 | aarch64) echo aarch64-unknown-linux-musl ;; \
      *) echo "no image for ${TARGETARCH:-$(uname -m)}: amd64 and arm64 only" >&2; exit 1 ;; \
    esac > /rust-target; \
    if ! command -v musl-gcc || [ ! -s /etc/ssl/certs/ca-certificates.crt ]; then \
      apt-get update \
      && apt-get install -y --no-install-recommends ca-certificates musl-tools \
      && rm -rf /var/lib/apt/lists/*; \
    fi

# The dependencies, with an empty crate in place of ours: this layer is used
# again until the toolchain, Cargo.toml or Cargo.lock changes. Targets with files
# that the build does not get are taken out of the manifest.
COPY rust-toolchain.toml Cargo.toml Cargo.lock ./
RUN target=$(cat /rust-target) \
    && { [ -d "$(rustc --print target-libdir --target "$target")" ] || rustup target add "$target"; } \
    && awk '/^\[/ { skip = /^\[\[(bench|example|test)\]\]/ } !skip' Cargo.toml > /rust-manifest \
    && cp /rust-manifest Cargo.toml \
    && mkdir src \
    && echo '//! Stub.' > src/lib.rs \
    && printf '//! Stub.\nfn main() {}\n' > src/main.rs \
    && cargo build --release --locked --target "$target"

# Ours. The copies are older than the stubs' build, hence the touch.
COPY . .
RUN target=$(cat /rust-target) \
    && cp /rust-manifest Cargo.toml \
    && touch src/lib.rs src/main.rs \
    && cargo build --release --locked --target "$target" --bin iamrole \
    && install -D "target/$target/release/iamrole" /out/iamrole \
    && if readelf -d /out/iamrole | grep NEEDED; then echo "not static" >&2; exit 1; fi

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="iamrole-operator" \
      org.opencontainers.image.description="AWS IAM roles from Kubernetes" \
      org.opencontainers.image.source="https://github.com/iamrole-dev/iamrole-operator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/iamrole /iamrole
# A number, so that runAsNonRoot can be checked.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/iamrole"]
