#!/usr/bin/env bash
# with-engine.sh COMMAND...: runs the command with a Docker Engine that has compose v2 and the images the stack starts from.
#
# An engine that answers is used. Otherwise, as root on a Debian machine, one is installed from Debian's packages, started
# with its data in ENGINE_DIR, and stopped again (ENGINE_KEEP=1 leaves it running). Without an engine the command runs all
# the same, with ENGINE_PROBLEM saying why there is none.
# DOCKER_ENGINE_TOOL: a program that is called with `up` instead, and prints the `export` lines to use.
set -uo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
ENGINE_DIR=${ENGINE_DIR:-/var/tmp/sweeper-engine}
PYTHON_IMAGE=python:3.11-slim
POSTGRES_IMAGE=postgres:17
ours=

say() { printf 'engine: %s\n' "$*" >&2; }
ready() { docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }
mirror() { sed -nE 's/^(URIs: *|deb (\[[^]]*\] )?)(http[^ ]*debian) ?.*/\3/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -1; }

install_engine() {
    local packages=() name
    for name in docker.io iptables iproute2 debootstrap; do
        dpkg -s "$name" >/dev/null 2>&1 || packages+=("$name")
    done
    [ ${#packages[@]} = 0 ] && return
    say "installing ${packages[*]}"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

# Compose v2 and buildx, where this Debian does not have them, out of the next one's packages: they are single programs.
install_plugins() {
    docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1 && return
    local apt=$ENGINE_DIR/apt deb
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/unpacked" "$DOCKER_CONFIG/cli-plugins"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) trixie main" >"$apt/sources.list"
    local options=(-qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists"
        -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update || return
    (cd "$apt" && apt-get "${options[@]}" download docker-compose/trixie docker-buildx/trixie >/dev/null) || return
    for deb in "$apt"/*.deb; do dpkg-deb --extract "$deb" "$apt/unpacked"; done
    cp "$apt"/unpacked/usr/libexec/docker/cli-plugins/docker-* "$DOCKER_CONFIG/cli-plugins/"
}

start_engine() {
    docker info >/dev/null 2>&1 && return
    iptables-save >"$ENGINE_DIR/iptables" || return
    ip -o link | awk -F': ' '{print $2}' >"$ENGINE_DIR/links"
    setsid nohup dockerd --data-root "$ENGINE_DIR/data" --exec-root "$ENGINE_DIR/run" --pidfile "$ENGINE_DIR/dockerd.pid" \
        >"$ENGINE_DIR/dockerd.log" 2>&1 </dev/null &
    ours=$!
    for _ in $(seq 120); do
        docker info >/dev/null 2>&1 && return
        kill -0 "$ours" 2>/dev/null || break
        sleep 0.5
    done
    tail -5 "$ENGINE_DIR/dockerd.log" >&2
    return 1
}

# The daemon leaves bridges behind, and a packet filter that forwards nothing.
stop_engine() {
    [ -n "$ours" ] && [ -z "${ENGINE_KEEP:-}" ] || return 0
    kill "$ours" 2>/dev/null
    for _ in $(seq 60); do kill -0 "$ours" 2>/dev/null || break; sleep 0.5; done
    iptables-restore <"$ENGINE_DIR/iptables"
    ip -o link | awk -F': ' '{print $2}' | grep -vxFf "$ENGINE_DIR/links" | grep -E '^(docker0|br-)' |
        while read -r link; do ip link delete "$link"; done
    say "stopped"
}

get_engine() {
    ready && return
    if [ -n "${DOCKER_ENGINE_TOOL:-}" ]; then
        local lines
        lines=$("$DOCKER_ENGINE_TOOL" up) && eval "$lines" && ready && return
        ENGINE_PROBLEM="$DOCKER_ENGINE_TOOL up gave no engine"
    elif [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        ENGINE_PROBLEM="docker with compose v2 does not answer, and to install it takes root and apt"
    else
        export DOCKER_CONFIG=$ENGINE_DIR/config
        mkdir -p "$DOCKER_CONFIG"
        install_engine && install_plugins && start_engine && return
        ENGINE_PROBLEM="an engine could not be installed or started on this machine"
    fi
    return 1
}

# On machines that reach no image registry, stand-ins for the official images are made from Debian's packages.
get_images() {
    if ! docker image inspect "$PYTHON_IMAGE" >/dev/null 2>&1 && ! timeout 120 docker pull -q "$PYTHON_IMAGE" >/dev/null 2>&1; then
        say "$PYTHON_IMAGE cannot be pulled: making a stand-in"
        make_python_image || { ENGINE_PROBLEM="there is no $PYTHON_IMAGE, and no stand-in could be made"; return 1; }
    fi
    if ! docker image inspect "$POSTGRES_IMAGE" >/dev/null 2>&1 && ! timeout 120 docker pull -q "$POSTGRES_IMAGE" >/dev/null 2>&1; then
        say "$POSTGRES_IMAGE cannot be pulled: making a stand-in"
        docker build -q -t "$POSTGRES_IMAGE" "$HERE/postgres" >/dev/null ||
            { ENGINE_PROBLEM="there is no $POSTGRES_IMAGE, and no stand-in could be made"; return 1; }
    fi
}

make_python_image() {
    command -v debootstrap >/dev/null || return
    local root
    root=$(mktemp -d "${TMPDIR:-/var/tmp}/rootfs.XXXXXX")
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root" "$(mirror)" >"$root.log" 2>&1 || return
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
    ln -s /usr/bin/python3 "$root/usr/local/bin/python"
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null # a proxy's, if any
    chroot "$root" update-ca-certificates >/dev/null 2>&1
    tar --directory "$root" --numeric-owner --exclude='./dev/*' --create . | docker import \
        --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'ENV LANG=C.UTF-8' \
        --change 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' --change 'CMD ["python3"]' - "$PYTHON_IMAGE" >/dev/null
    local status=$?
    rm -rf "$root" "$root.log"
    return $status
}

ENGINE_PROBLEM=
trap stop_engine EXIT
began=$SECONDS
if get_engine && get_images; then
    say "ready after $((SECONDS - began)) s: docker $(docker version --format '{{.Server.Version}}'), compose $(docker compose version --short)"
else
    say "SKIPPED, the compose stack is not tested here: $ENGINE_PROBLEM"
fi
export ENGINE_PROBLEM
"$@"
status=$?
[ -z "$ENGINE_PROBLEM" ] || say "SKIPPED, the compose stack is not tested here: $ENGINE_PROBLEM"
exit $status
