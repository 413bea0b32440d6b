# Sourced by the scripts beside it: podman and buildah without a daemon, without systemd and without a registry. Base
# images are made here (debootstrap, this machine's rustup and certificates). Needs root, a Rust by rustup, and on Debian 12:
# apt-get install buildah podman runc catatonit netavark iptables debootstrap curl iproute2 python3
# Images and layers, some 6 GB, stay for the next time; `rm -rf /var/lib/tickgen-containers` ends that.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for tool in buildah podman runc iptables debootstrap rustup git curl ss python3 "$@"; do
    command -v "$tool" >/dev/null || { echo "$0: $tool is missing; what to install is at its top" >&2; exit 2; }
done

processor=$(dpkg --print-architecture)
work=$(mktemp -d)
# Read by whatever starts podman, podman-compose too.
export CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_CONF=$work/containers.conf
cat >"$CONTAINERS_STORAGE_CONF" <<'CONF'
[storage]
driver = "overlay"
graphroot = "/var/lib/tickgen-containers"
runroot = "/run/tickgen-containers"
CONF
cat >"$CONTAINERS_CONF" <<'CONF'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_config_dir = "/var/lib/tickgen-containers/networks"
CONF

say() { printf '%4s s  %s\n' "$SECONDS" "$1"; }

wait_for() {
    for _ in {1..150}; do
        "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    fail "waited in vain for: $*"
}

# The base that the Dockerfile builds in, localhost/tickgen-builder:PROCESSOR: Debian with this machine's Rust, laid out as
# in docker.io/library/rust. Buildah 1.28 looks for a local base of the image's processor, whatever the Dockerfile's FROM
# says: what is tagged with the other processor is the same.
make_builder() {
    podman image exists "localhost/tickgen-builder:$1" && return
    local root=$work/builder toolchain tag
    debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates bookworm "$root" >"$work/log" 2>&1 ||
        { tail "$work/log" >&2; fail "debootstrap"; }
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    toolchain=$(rustc --print sysroot)
    mkdir -p "$root/usr/local/cargo/bin" "$root/usr/local/rustup/toolchains"
    cp --dereference "$(command -v rustup)" "$root/usr/local/cargo/bin/rustup"
    for tag in cargo rustc; do ln -s rustup "$root/usr/local/cargo/bin/$tag"; done
    cp "$(rustup show home)/settings.toml" "$root/usr/local/rustup/"
    tar -C "$(dirname "$toolchain")" --exclude=./*/share -c "./$(basename "$toolchain")" |
        tar -C "$root/usr/local/rustup/toolchains" -x
    for tag in amd64 arm64; do
        tar -C "$root" -c . | podman import --quiet --arch "$tag" \
            --change 'ENV RUSTUP_HOME=/usr/local/rustup' --change 'ENV CARGO_HOME=/usr/local/cargo' \
            --change 'ENV PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            - "localhost/tickgen-builder:$tag" >/dev/null
    done
    rm -rf "$root"
    say "base image made"
}

# The image for a processor (amd64, arm64), as localhost/tickgen:PROCESSOR. On 2 cores 8 minutes, as everything is
# compiled; again, with the layers of then, 90 s.
build_image() {
    make_builder "$1"
    buildah bud --isolation chroot --network host --format docker --layers --platform "linux/$1" \
        --build-arg "BUILDER=localhost/tickgen-builder:$1" --build-arg REVISION="$(git rev-parse HEAD)" --build-arg VERSION=test \
        --tag "localhost/tickgen:$1" . >"$work/build.log" 2>&1 || { tail -20 "$work/build.log" >&2; fail "build"; }
    say "image for $1 built: $(podman image inspect --format '{{.Size}} bytes, {{.Os}}/{{.Architecture}}' "localhost/tickgen:$1")"
}
