# Sourced by the scripts beside it: podman and buildah without a daemon, without systemd and without a registry. Base
# images are made here (debootstrap, this machine's Rust and certificates). Needs root, and on Debian 12:
# apt-get install buildah podman runc catatonit netavark iptables debootstrap qemu-user-static
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for tool in buildah podman runc iptables debootstrap; do
    command -v "$tool" >/dev/null || { echo "$0: $tool is missing; what to install is in deploy/container/common.sh" >&2; exit 2; }
done

work=$(mktemp -d)
# Read by whatever starts podman, podman-compose too. Images are kept where root's podman keeps them.
export CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_CONF=$work/containers.conf
cat >"$CONTAINERS_STORAGE_CONF" <<'CONF'
[storage]
driver = "vfs"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
CONF
cat >"$CONTAINERS_CONF" <<'CONF'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF

say() { printf '%4s s  %s\n' "$SECONDS" "$1"; }

wait_for() {
    for _ in {1..150}; do
        "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    fail "waited in vain for: $*"
}

# The base that the Dockerfile builds in, localhost/tickgen-builder:PROCESSOR: this machine's, with compilers for both
# processors. Buildah 1.28 looks for a local base of the image's processor, whatever the Dockerfile's FROM says: what is
# tagged arm64 is the same.
make_builder() {
    podman image exists "localhost/tickgen-builder:$1" && return
    local root=$work/builder rust processor
    debootstrap --variant=minbase \
        --include=gcc,libc6-dev,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross,ca-certificates \
        bookworm "$root" >"$work/log" 2>&1 || { tail "$work/log" >&2; fail "debootstrap"; }
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    rustup --quiet target add aarch64-unknown-linux-gnu
    rust=$(rustc --print sysroot)
    mkdir -p "$root/usr/local/rust"
    tar -C "$rust" --exclude=./share --exclude=./lib/rustlib/src -c . | tar -C "$root/usr/local/rust" -x
    for processor in amd64 arm64; do
        tar -C "$root" -c . | podman import --quiet --arch "$processor" \
            --change 'ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            - "localhost/tickgen-builder:$processor" >/dev/null
    done
    rm -rf "$root"
    say "base image made"
}

# The image for a processor (amd64, arm64), as localhost/tickgen:PROCESSOR. On 2 cores 10 minutes, as everything is
# compiled; again, with the layers of then, 90 s.
build_image() {
    make_builder "$1"
    buildah bud --isolation chroot --network host --format docker --layers --platform "linux/$1" \
        --build-arg "BUILDER=localhost/tickgen-builder:$1" --build-arg REVISION="$(git rev-parse HEAD)" --build-arg VERSION=test \
        --tag "localhost/tickgen:$1" . >"$work/build.log" 2>&1 || { tail -20 "$work/build.log" >&2; fail "build"; }
    say "image for $1 built: $(podman image inspect --format '{{.Size}} bytes, {{.Os}}/{{.Architecture}}' "localhost/tickgen:$1")"
}
