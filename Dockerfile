# The operator's image: one static binary on a base that has no shell.
#
#   docker build --tag fly-tunnel-operator .                                       for this machine
#   docker buildx build --platform linux/amd64,linux/arm64 --push --tag … .        for both, by cross-compiling
#
# BASE has the certificate authorities of the public web, by which Fly proves itself. (The cluster's come with its ServiceAccount.) The
# binary asks nothing else of it.
ARG BUILDER=docker.io/library/rust:1.95.0-bookworm
ARG BASE=gcr.io/distroless/static:nonroot

# This stage runs on the architecture of the building machine, whatever the image is for.
FROM --platform=$BUILDPLATFORM ${BUILDER} AS build
# The full name selects the right gcc even if the building machine is an arm64.
ENV CC_x86_64_unknown_linux_musl=x86_64-linux-gnu-gcc
ARG TARGETARCH=amd64
RUN set -eu; \
    case "$TARGETARCH" in \
        amd64) machine=x86_64 ;; \
        arm64) machine=aarch64 ;; \
        *) echo "there is no fly-tunnel-operator for $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    echo "$machine" >/machine; \
    if ! command -v "$machine-linux-gnu-gcc"; then \
        apt-get update; \
        apt-get install --yes --no-install-recommends "gcc-$(echo "$machine" | tr _ -)-linux-gnu" libc6-dev-"$TARGETARCH"-cross; \
    fi
WORKDIR /src
COPY . .
RUN cp "$(scripts/static "$(cat /machine)")" /fly-tunnel-operator

FROM ${BASE}
ARG BASE
# The release workflow gives the values of a release.
ARG VERSION=development
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="fly-tunnel-operator" \
      org.opencontainers.image.description="A Kubernetes load balancer for clusters that have none: public addresses through frp tunnels and Fly.io Machines" \
      org.opencontainers.image.url="https://github.com/zhming0/fly-tunnel-operator" \
      org.opencontainers.image.documentation="https://github.com/zhming0/fly-tunnel-operator#readme" \
      org.opencontainers.image.source="https://github.com/zhming0/fly-tunnel-operator" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.vendor="zhming0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=build /fly-tunnel-operator /fly-tunnel-operator
# The user is a number because the kubelet's runAsNonRoot cannot tell which user a name stands for.
USER 65532:65532
ENTRYPOINT ["/fly-tunnel-operator"]
