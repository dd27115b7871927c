# Sourced by scripts/test and scripts/demo: makes and keeps the Python environment .venv at the project root.
#
# Variables of the caller's environment:
#   UPS_DATA_PYTHON   the Python to build .venv with (default: the first of python3.11, 3.12, 3.13, python3 that fits)
#   UPS_DATA_DRY_RUN  when set, print the pip command instead of running it, and stop
#
# Written for bash 3.2 and later, since that is what macOS ships.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="$ROOT/.venv"
# Lies in .venv from before the first write until the install has ended: what it marks is rebuilt from nothing.
UNFINISHED="$VENV/ups-data-unfinished"
readonly ROOT VENV UNFINISHED

say() { printf '==> %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    if [ $# -gt 0 ]; then printf '       %s\n' "$@" >&2; fi
    exit 1
}

# Without it an interrupted pip would be reported as a failed one.
trap 'printf "\ninterrupted; run %s again, it goes on from here\n" "$0" >&2; exit 130' INT TERM

# Run it: a pyenv shim exists for every version that pyenv ever installed and fails when it is not selected.
fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1
}

find_python() {
    local name
    if [ -n "${UPS_DATA_PYTHON:-}" ]; then
        fits "$UPS_DATA_PYTHON" || fail "UPS_DATA_PYTHON=$UPS_DATA_PYTHON does not run, or is not Python 3.11 to 3.13." \
            "Set it to the path of a Python 3.11, 3.12 or 3.13, or unset it."
        printf '%s\n' "$UPS_DATA_PYTHON"
        return
    fi
    for name in python3.11 python3.12 python3.13 python3; do
        if fits "$name"; then
            command -v "$name"
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 was found on PATH (tried python3.11, python3.12, python3.13, python3)." \
        "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.12)," \
        "or name one: UPS_DATA_PYTHON=/path/to/python3.12 $0"
}

has_nvidia_gpu() {
    if nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then return 0; fi
    compgen -G '/dev/nvidia[0-9]*' >/dev/null
}

# Print "cpu" where the pinned CPU build is wanted and "any" where torch is left to pip: with a GPU, and on systems
# whose torch wheels carry no CUDA.
torch_choice() {
    if [ "$(uname -s)" = Linux ] && ! has_nvidia_gpu; then echo cpu; else echo any; fi
}

# What the environment depends on; a change of any of it installs again.
environment_key() {
    {
        cat "$ROOT/pyproject.toml" "$ROOT/scripts/constraints-cpu.txt" "$ROOT/scripts/environment.sh"
        printf '%s\n' "$ROOT" "$1" "$2"
    } | cksum
}

# Say whether the environment for ups-data[$1] with torch choice $2 is there. That of dev serves the demo too.
is_ready() {
    local extra
    for extra in "$1" dev; do
        if [ "$(cat "$VENV/ups-data-$extra" 2>/dev/null)" = "$(environment_key "$extra" "$2")" ]; then return 0; fi
    done
    return 1
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# Say whether .venv must be made: absent, left half-made, dead, or of another Python than the one asked for.
needs_making() {
    if [ ! -d "$VENV" ]; then return 0; fi
    if [ -e "$UNFINISHED" ]; then
        say "an earlier installation was interrupted: starting again" >&2
        return 0
    fi
    if ! "$VENV/bin/python" -c '' >/dev/null 2>&1; then
        say "the Python of .venv does not run any more: making .venv again" >&2
        return 0
    fi
    if [ -n "${UPS_DATA_PYTHON:-}" ] && [ "$(version_of "$VENV/bin/python")" != "$(version_of "$UPS_DATA_PYTHON")" ]; then
        say "UPS_DATA_PYTHON is another Python than that of .venv: making .venv again" >&2
        return 0
    fi
    fits "$VENV/bin/python" || fail "$VENV holds a Python that is not 3.11 to 3.13." "Move it away and run $0 again."
    return 1
}

make_venv() {
    local python="$1"
    say "making .venv with $python ($(version_of "$python"))"
    "$python" -c 'import venv' 2>/dev/null || fail "$python has no module venv." \
        "Install it (Debian, Ubuntu: apt install python$(version_of "$python")-venv), or set UPS_DATA_PYTHON."
    rm -rf "$VENV"
    mkdir "$VENV"
    : >"$UNFINISHED"
    # pip comes in a step of its own: Debian's Python without python3-venv has venv but not ensurepip.
    "$python" -m venv --without-pip "$VENV"
    provide_pip "$python"
}

provide_pip() {
    if "$VENV/bin/python" -m ensurepip --default-pip >/dev/null 2>&1; then return; fi
    if "$1" -m pip --python "$VENV/bin/python" install --quiet pip; then return; fi
    fail "$1 has neither ensurepip nor a pip of 22.3 or later, so .venv gets no pip." \
        "Install one (Debian, Ubuntu: apt install python$(version_of "$1")-venv), or set UPS_DATA_PYTHON."
}

# On a terminal pip shows its own bars. Elsewhere one line per download, and without pip's warning about every
# package that a configured local index does not hold; all other messages pass.
run_pip() {
    if [ -t 1 ]; then
        "$@"
        return
    fi
    "$@" --progress-bar off 2> >(grep -v 'is ignored: it is neither a file nor a directory' >&2 || true) | awk '
        /Downloading/ && !/metadata/ { print "    downloading", $2, $3, $4; fflush() }
        /^Installing collected packages/ { print "    packages to install:", NF - 3; fflush() }'
}

has_torch() { "$VENV/bin/python" -c 'import importlib.metadata as m; m.version("torch")' >/dev/null 2>&1; }

install() {
    local extra="$1" choice="$2"
    local command=("$VENV/bin/python" -m pip --disable-pip-version-check install)
    # A torch that is there stays: a constraint would replace the CUDA build of a machine whose GPU is elsewhere now.
    if [ "$choice" = cpu ] && ! has_torch; then
        command+=(-c "$ROOT/scripts/constraints-cpu.txt")
        say "no NVIDIA GPU: installing $(grep '^torch' "$ROOT/scripts/constraints-cpu.txt"), a CPU build where pip is offered one"
    else
        say "torch: the one that .venv has, or else the newest build for this system"
    fi
    command+=(-e "$ROOT[$extra]")
    if [ -n "${UPS_DATA_DRY_RUN:-}" ]; then
        printf 'dry run:'
        printf ' %q' "${command[@]}"
        printf '\n'
        return
    fi
    say "installing ups-data[$extra] and what it needs into .venv (once; one to five minutes)"
    # A user-wide PIP_USER=1 is refused inside an environment.
    PIP_USER=0 run_pip "${command[@]}" || fail "pip could not install what is needed; its own message is above." \
        "No network? Connect, or point pip at a mirror (pip config set global.index-url ...), and run $0 again." \
        "Nothing has to be cleaned up."
}

# A CPU build beside a GPU works and is slow, which is easily overlooked.
warn_of_cpu_torch() {
    "$VENV/bin/python" -c 'import sys, torch; sys.exit(torch.version.cuda is None)' || printf '%s\n' \
        "warning: this machine has an NVIDIA GPU, and .venv a torch without CUDA; training will run on the CPU." \
        "         To change it: $VENV/bin/python -m pip install --force-reinstall torch" >&2
}

# Two scripts started at once take turns, where the system has flock.
lock_environment() {
    if ! command -v flock >/dev/null; then return; fi
    exec 9>"$ROOT/.venv.lock"
    flock --nonblock 9 && return
    say "another script is preparing .venv: waiting for it"
    flock 9
}

# Make .venv ready for ups-data[$1]. Does nothing when it is.
ensure_environment() {
    if [ -z "${UPS_DATA_DRY_RUN:-}" ]; then lock_environment; fi
    prepare_environment "$1"
    exec 9>&-
}

prepare_environment() {
    local extra="$1" choice python
    choice="$(torch_choice)"
    if [ -n "${UPS_DATA_DRY_RUN:-}" ]; then
        python="$(find_python)"
        say "Python: $python ($(version_of "$python"))"
        install "$extra" "$choice"
        exit 0
    fi
    if needs_making; then
        python="$(find_python)"
        make_venv "$python"
    elif is_ready "$extra" "$choice"; then
        say "environment .venv is ready"
        return
    fi
    : >"$UNFINISHED"
    "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || provide_pip "$(find_python)"
    install "$extra" "$choice"
    if has_nvidia_gpu; then warn_of_cpu_torch; fi
    environment_key "$extra" "$choice" >"$VENV/ups-data-$extra"
    rm -f "$UNFINISHED"
    say "environment .venv is ready"
}
