#!/usr/bin/env bash
# Builds both images on a Debian 12 base and serves from them: no container engine, no image
# registry. What it proves is called what it is: "builds and serves on a Debian 12 base". The base
# that the Dockerfile names by default is another one; it is built where an engine can pull it.
#
#   docker/image_test.sh        as root, on Debian with apt-get, python3 and a network for packages
#   docker/image_test.sh sizes  builds the server's image only, and lists its layers
#
# ENCSERVE_IMAGE_CACHE  where the base and the layers are kept between runs
#                       [default: $XDG_CACHE_HOME/encserve-image]; about 9 GB, as each layer is a
#                       whole copy; remove it to start afresh
set -euo pipefail
cd "$(dirname "$0")/.."

readonly BASE=localhost/python-base:bookworm
readonly SERVER=localhost/encserve:test
readonly OFFLINE=localhost/encserve-offline:test
readonly RUN_AS=10001
# What the server's image may add to its base; models are not in it.
readonly MOST_MB=350

cache=${ENCSERVE_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/encserve-image}
work=
containers=()
server_job=
server_pid=

main() {
    [[ $EUID -eq 0 ]] || fail "run it as root: debootstrap and chroot need it"
    mkdir -p "$cache"
    cache=$(cd "$cache" && pwd)
    exec 9>"$cache/lock"
    flock --nonblock 9 || fail "another run uses $cache"
    # Apart from the machine's own images.
    BUILDAH=(buildah --root "$cache/storage" --runroot "$cache/runroot" --storage-driver vfs)
    readonly BUILDAH
    work=$(mktemp -d "$cache/run.XXXXXX")
    trap clean_up EXIT

    install_tools
    make_base
    read_pip_settings
    if [[ ${1:-} == sizes ]]; then
        build server "$SERVER"
        check_size
        return
    fi
    build offline "$OFFLINE"
    build server "$SERVER"
    check_size
    check_server_image
    make_models
    serve
    check_answers
    check_stop
    report
}

fail() {
    echo "image-test: FAILED: $*" >&2
    exit 1
}

say() {
    printf 'image-test: [%4d s] %s\n' "$SECONDS" "$*"
}

clean_up() {
    local status=$?
    trap - EXIT
    [[ -z $server_pid ]] || kill -KILL "$server_pid" 2>/dev/null || true
    [[ -z $server_job ]] || wait "$server_job" 2>/dev/null || true
    ((${#containers[@]} == 0)) || bh rm "${containers[@]}" >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$status"
}

bh() {
    "${BUILDAH[@]}" "$@"
}

install_tools() {
    local missing=()
    command -v buildah >/dev/null || missing+=(buildah)
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    ((${#missing[@]} > 0)) || return 0
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}"; } \
        >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; fail "could not install ${missing[*]}"; }
}

# Debian 12 with Python, made from Debian's packages once.
make_base() {
    if bh inspect --type image "$BASE" >/dev/null 2>&1; then
        say "base $BASE is there"
        return
    fi
    say "making $BASE with debootstrap"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv \
        bookworm "$work/root" >"$work/debootstrap.log" 2>&1 ||
        { tail -n 30 "$work/debootstrap.log" >&2; fail "debootstrap did not make the base"; }
    rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
    tar -C "$work/root" -cf "$work/base.tar" .
    rm -rf "$work/root"
    printf 'FROM scratch\nADD base.tar /\n' >"$work/Dockerfile.base"
    bh bud --isolation chroot --quiet --tag "$BASE" --file "$work/Dockerfile.base" "$work" \
        >"$work/base.log" 2>&1 || { cat "$work/base.log" >&2; fail "the base did not build"; }
    rm "$work/base.tar"
}

# pip in the build works with the settings that pip has on this machine, wherever they come from:
# they become one pip.conf, which the Dockerfile takes as a secret, and the local files and folders
# that they name (a CA bundle, constraints, wheels, an index on disk) appear below /mnt, read-only.
# Proxy variables need nothing: buildah hands them on.
read_pip_settings() {
    mkdir "$work/pip" "$work/mnt"
    python3 - "$work/pip" "$work/mnt" <<'PYTHON'
import ast, configparser, os, pathlib, subprocess, sys

folder, mount_points = map(pathlib.Path, sys.argv[1:])
of_this_machine = {"cache-dir", "log", "prefix", "python", "require-virtualenv", "root", "target", "user"}
listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
settings: dict[str, dict[str, str]] = {"global": {}}
from_variables: dict[str, str] = {}
for line in listed.stdout.splitlines() if listed.returncode == 0 else []:
    name, _, value = line.partition("=")
    section, _, key = name.rpartition(".")
    if key not in of_this_machine:
        into = from_variables if section == ":env:" else settings.setdefault(section, {})
        into[key] = str(ast.literal_eval(value))
for section in settings.values():  # a variable wins over every file
    for key in from_variables:
        section.pop(key, None)
settings["global"] |= from_variables
bundle = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
if bundle:
    settings["global"].setdefault("cert", bundle)

mounts: dict[pathlib.Path, pathlib.Path] = {}


def inside(word: str, key: str) -> str:
    """The word of a setting as the build sees it; a local path is mounted."""
    scheme = "file://" if word.startswith("file://") else ""
    path = pathlib.Path(word.removeprefix(scheme))
    if not path.is_absolute() or not path.exists():
        return word
    # The pages of an index link to files beside it.
    beside = "index" in key and path.parent.parent != path.parent
    source = path.parent if beside else path
    if source not in mounts:
        point = mount_points / f"{len(mounts)}-{source.name}"
        point.mkdir() if source.is_dir() else point.touch()
        mounts[source] = pathlib.Path("/mnt", point.name)
    return f"{scheme}{mounts[source] / path.relative_to(source)}"


# ConfigParser reads "%" as the start of a reference; pip does not.
config = configparser.RawConfigParser()
for name, section in settings.items():
    config[name] = {key: "\n".join(inside(word, key) for word in value.split()) for key, value in section.items()}
with (folder / "pip.conf").open("w") as file:
    config.write(file)
(folder / "mounts").write_text("".join(f"{point.name} {source}\n" for source, point in mounts.items()))
PYTHON
    chmod 600 "$work/pip/pip.conf"
}

# The mounts of the build come and go with a mount namespace of its own.
with_pip_settings() { # command
    # shellcheck disable=SC2016  # the shell inside expands it
    unshare --mount bash -euc '
        while read -r point source; do
            mount --bind "$source" "$0/mnt/$point"
            mount -o remount,bind,ro "$0/mnt/$point"
        done <"$0/pip/mounts"
        exec "$@"' "$work" "$@"
}

build() { # target, tag
    local before started=$SECONDS
    before=$(bh images --quiet --no-trunc "$2" 2>/dev/null || true)
    say "building $2"
    with_pip_settings "${BUILDAH[@]}" bud --isolation chroot --format docker --layers --pull-never \
        --secret id=pip-conf,src="$work/pip/pip.conf" --volume "$work/mnt:/mnt:ro" \
        --build-arg BASE_IMAGE="$BASE" \
        --build-arg VERSION="$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)" \
        --target "$1" --tag "$2" --file docker/Dockerfile . \
        >"$work/build-$1.log" 2>&1 ||
        { tail -n 60 "$work/build-$1.log" >&2; fail "target $1 did not build"; }
    say "built $2 in $((SECONDS - started)) s, $(grep -c 'Using cache' "$work/build-$1.log" || true) steps from the cache"
    # The image that this one replaces would only fill the disk.
    if [[ -n $before && $before != "$(bh images --quiet --no-trunc "$2")" ]]; then
        bh rmi "$before" >/dev/null 2>&1 || true
    fi
}

# The layers that the server's image adds to its base, as a table, and what is large in them.
check_size() {
    local container=
    new_container "$SERVER"
    say "layers of the server's image over its base, in MB:"
    python3 - "$cache/storage" "$BASE" "$SERVER" "$MOST_MB" <<'PYTHON' || fail "the image is too large"
import json, pathlib, sys

storage, base, server, most_mb = sys.argv[1:]


def read(name):
    return json.loads(pathlib.Path(storage, name).read_text())


layers = {layer["id"]: layer for layer in read("vfs-layers/layers.json")}
images = {name: image for image in read("vfs-images/images.json") for name in image.get("names") or ()}


def chain(name):
    """The layers of an image, from its base up."""
    found, at = [], images[name]["layer"]
    while at:
        found.append(layers[at])
        at = layers[at].get("parent")
    return found[::-1]


folder = pathlib.Path(storage, "vfs-images", images[server]["id"])
config = next(
    parsed
    for file in folder.iterdir()
    if file.name.startswith("=")
    for parsed in [json.loads(file.read_bytes() or b"{}")]
    if "history" in parsed
)
made_by = [step["created_by"] for step in config["history"] if not step.get("empty_layer")]
added = chain(server)[len(chain(base)):]
total = 0
for layer, step in zip(added, made_by[-len(added):]):
    megabytes = layer.get("diff-size", 0) / 1e6
    total += megabytes
    print(f"image-test:   {megabytes:8.1f}  {' '.join(step.split())[:90]}")
print(f"image-test:   {total:8.1f}  together, {most_mb} are allowed")
sys.exit(total > float(most_mb))
PYTHON
    say "the largest packages of it, in MB:"
    bh run --isolation chroot "$container" -- sh -c \
        'du --block-size=1MB --summarize /opt/encserve/lib/python3*/site-packages/* | sort -rn | head -n 12' |
        sed 's,/opt.*site-packages/,,; s,^,image-test:   ,'
}

# One field of an image's configuration, a word a line.
config_of() { # image, field
    bh inspect --type image "$1" | python3 -c '
import json, sys
value = json.load(sys.stdin)["Docker"]["config"]
for key in sys.argv[1].split("."):
    value = value.get(key) or ""
print(*(value if isinstance(value, list) else [value]), sep="\n")' "$2"
}

new_container() { # image; the name is left in $container
    container=$(bh from --pull-never "$1")
    containers+=("$container")
}

# As the image's own user, by the image's own environment.
in_server() {
    bh run --isolation chroot "$server" -- "$@"
}

# What compose asks of an engine: the command is process 1, the root is read-only, /tmp is in
# memory, no capabilities and no way to new ones. The network is this machine's.
contained() { # container, options of buildah run, --, command
    local name=$1 options=()
    shift
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    # shellcheck disable=SC2016  # the shell inside expands it
    bh run --isolation chroot --user 0:0 --cap-add CAP_SYS_ADMIN \
        --mount type=tmpfs,destination=/tmp,tmpfs-size=64m,tmpfs-mode=1777 "${options[@]}" "$name" -- sh -euc '
            mount -o remount,bind,ro /
            user=$1
            shift
            exec unshare --pid --fork --kill-child --mount-proc \
                setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs \
                --bounding-set=-all --inh-caps=-all -- "$@"' sh "$RUN_AS" "$@"
}

check_server_image() {
    new_container "$SERVER"
    server=$container

    [[ $(config_of "$SERVER" User) == "$RUN_AS:$RUN_AS" ]] || fail "the image's user is not $RUN_AS"
    [[ $(config_of "$OFFLINE" User) == "$RUN_AS:$RUN_AS" ]] || fail "the offline image's user is not $RUN_AS"
    config_of "$SERVER" Env | grep -qx 'ENCSERVE_HOST=0.0.0.0' || fail "the image listens on loopback only"
    config_of "$SERVER" Env | grep -qx 'ENCSERVE_MODEL_STORE=/models' || fail "the models are not in /models"
    [[ $(in_server id -u) == "$RUN_AS" ]] || fail "a command does not run as $RUN_AS"

    local module writable
    for module in torch transformers onnx safetensors pip setuptools; do
        ! in_server python3 -c "import $module" 2>/dev/null || fail "the server image has $module"
    done
    in_server python3 -c 'import onnxruntime, service.api.app' || fail "the server cannot be imported"
    say "server image: no torch, no transformers, no pip"

    writable=$(in_server find / -xdev -writable ! -type l ! -path /models ! -path '/tmp*' \
        ! -path '/var/tmp*' ! -path /run/lock 2>/dev/null || true)
    [[ -z $writable ]] || fail "user $RUN_AS can write: $writable"
    ! in_server sh -c 'echo x >/opt/encserve/probe' 2>/dev/null || fail "/opt/encserve can be written"
    say "server image: user $RUN_AS can write nothing but /models, /tmp, /var/tmp and /run/lock"
}

make_models() {
    local command started=$SECONDS
    new_container "$OFFLINE"
    mkdir "$work/models"
    chown "$RUN_AS:$RUN_AS" "$work/models"
    mapfile -t command < <(config_of "$OFFLINE" Entrypoint; config_of "$OFFLINE" Cmd)
    say "making the models: ${command[*]}"
    contained "$container" --volume "$work/models:/models:rw" -- "${command[@]}" \
        >"$work/models.log" 2>&1 ||
        { tail -n 30 "$work/models.log" >&2; fail "the offline image made no models"; }
    [[ -s $work/models/embedding/current && -s $work/models/sentiment/current ]] ||
        fail "embedding and sentiment were not published"
    say "models made in $((SECONDS - started)) s"
}

serve() {
    local command
    port=$(python3 -c '
import socket
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    print(probe.getsockname()[1])')
    ! health_check 2>/dev/null || fail "the health check passes without a server"

    mapfile -t command < <(config_of "$SERVER" Entrypoint; config_of "$SERVER" Cmd)
    # The image listens on every address; here that would be this machine's.
    contained "$server" --volume "$work/models:/models:ro" \
        --env ENCSERVE_HOST=127.0.0.1 --env "ENCSERVE_PORT=$port" -- "${command[@]}" \
        >"$work/server.log" 2>&1 &
    server_job=$!
    wait_until_ready
    server_pid=$(leaf "$server_job")
    check_process
    health_check || fail "the image's HEALTHCHECK fails on a ready server"
    say "the image's HEALTHCHECK passes"
}

# The command of the image's HEALTHCHECK, read from the image.
health_check() {
    local test
    mapfile -t test < <(config_of "$SERVER" Healthcheck.Test)
    [[ ${test[0]} == CMD ]] || fail "the image has no exec-form HEALTHCHECK"
    bh run --isolation chroot --env "ENCSERVE_PORT=$port" "$server" -- "${test[@]:1}"
}

wait_until_ready() {
    local started_ms now_ms
    started_ms=$(date +%s%3N)
    until python3 -c 'import sys, urllib.request as r
r.build_opener(r.ProxyHandler({})).open(f"http://127.0.0.1:{sys.argv[1]}/readyz", timeout=2)' \
        "$port" 2>/dev/null; do
        now_ms=$(date +%s%3N)
        if ((now_ms - started_ms > 10000)) || ! kill -0 "$server_job" 2>/dev/null; then
            cat "$work/server.log" >&2
            fail "/readyz did not answer 200 within 10 s"
        fi
        sleep 0.1
    done
    now_ms=$(date +%s%3N)
    say "/readyz answers 200 after $((now_ms - started_ms)) ms"
}

# The last process of a chain in which each has one child.
leaf() { # pid
    local pid=$1 child
    while child=$(pgrep --parent "$pid" | head -n 1) && [[ -n $child ]]; do
        pid=$child
    done
    echo "$pid"
}

check_process() {
    local written status=/proc/$server_pid/status
    [[ $(tr '\0' ' ' <"/proc/$server_pid/cmdline") == *"encserve serve "* ]] ||
        fail "process $server_pid is not the server"
    [[ $(awk '$1 == "Uid:" {print $2, $3, $4, $5}' "$status") == "$RUN_AS $RUN_AS $RUN_AS $RUN_AS" ]] ||
        fail "the server does not run as $RUN_AS"
    [[ $(awk '$1 == "NSpid:" {print $NF}' "$status") == 1 ]] || fail "the server is not process 1"
    [[ $(awk '$1 == "CapEff:" || $1 == "CapBnd:" {print $2}' "$status" | sort -u) == 0000000000000000 ]] ||
        fail "the server has capabilities"
    [[ $(awk '$1 == "NoNewPrivs:" {print $2}' "$status") == 1 ]] || fail "new privileges are possible"
    # Not even root, that is this script, can write there: the mount itself is read-only.
    ! touch "/proc/$server_pid/root/probe" 2>/dev/null || fail "the server's root can be written"
    ! touch "/proc/$server_pid/root/models/probe" 2>/dev/null || fail "the server's /models can be written"
    # onnxruntime's telemetry would leave its device id and cache here.
    written=$(find "/proc/$server_pid/root/tmp" -type f)
    [[ -z $written ]] || fail "the server has written $written"
    say "the server is process 1, uid $RUN_AS, without capabilities, on a read-only root, and wrote no file"
}

check_answers() {
    python3 - "http://127.0.0.1:$port" <<'PYTHON' || fail "the answers are not what they should be"
import json, sys, urllib.request

# No proxy: the server is on this machine.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(sys.argv[1] + path, data, {"Content-Type": "application/json"})
    with opener.open(request, timeout=30) as response:
        return response.read().decode()


expected = {
    "I waited an hour and the food was cold.": "negative",
    "The train leaves at nine.": "neutral",
    "Best purchase I have made in years!": "positive",
}
answer = json.loads(call("/v1/sentiment", {"input": list(expected)}))
labels = [row["label"] for row in answer["data"]]
for text, label, row in zip(expected, labels, answer["data"]):
    print(f"image-test:          {label} ({row['score']:.3f}): {text}")
assert labels == list(expected.values()), f"/v1/sentiment answered {labels}"

answer = json.loads(call("/v1/embeddings", {"input": "The train leaves at nine.", "model": "embedding"}))
vector = answer["data"][0]["embedding"]
assert len(vector) == 384 and all(isinstance(number, float) for number in vector), len(vector)

assert "encserve_requests_total{" in call("/metrics"), "/metrics lacks encserve_requests_total"
PYTHON
    say "/v1/sentiment, /v1/embeddings (384 numbers) and /metrics answer"
}

check_stop() {
    local started_ms stopped_ms status=0
    started_ms=$(date +%s%3N)
    kill -TERM "$server_pid"
    while kill -0 "$server_pid" 2>/dev/null; do
        (($(date +%s%3N) - started_ms <= 10000)) || fail "the server still runs 10 s after SIGTERM"
        sleep 0.05
    done
    stopped_ms=$(date +%s%3N)
    server_pid=
    wait "$server_job" || status=$?
    server_job=
    [[ $status -eq 0 ]] || { cat "$work/server.log" >&2; fail "SIGTERM ended the server with status $status"; }
    say "SIGTERM ended the server in $((stopped_ms - started_ms)) ms with status 0"
}

report() {
    say "image sizes (the base included):"
    bh images --format 'image-test:          {{.Name}}:{{.Tag}}  {{.Size}}' | grep -E "python-base|encserve" | sort
    echo "image-test: PASSED: builds and serves on a Debian 12 base, in $SECONDS s"
}

main "$@"
