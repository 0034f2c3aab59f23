# shellcheck shell=bash
# Sourced by demo.sh and test.sh: `prepare_environment EXTRA` makes a virtual environment with
# torch, this library and one of its extras, or finds that it is all there, which takes a second.
#
#   PYTHON=python3.12   the interpreter to build on; default: the first suitable one on the path
#   XLM_VENV=DIR        where the virtual environment lies; default: .venv in the checkout
#   XLM_TORCH=...       the torch to install, as pip takes it; default: see torch_build.py
#
# Afterwards: $root, $venv (its bin/ is first on the path) and $install_seconds.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${XLM_VENV:-$root/.venv}
log=$venv/install.log
install_seconds=0
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PYTHONUTF8=1

stop() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Prints the version; fails unless it is one that pyproject.toml admits.
python_version='import sys
print("%d.%d.%d" % sys.version_info[:3])
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

find_python() {
    local name version found=""
    local -a names=(python3 python python3.13 python3.12 python3.11)
    [[ -z ${PYTHON:-} ]] || names=("$PYTHON")
    for name in "${names[@]}"; do
        command -v "$name" >/dev/null || continue
        if version=$("$name" -c "$python_version" 2>/dev/null); then
            python=$("$name" -c 'import sys; print(sys.executable)')
            return
        fi
        [[ -z $version ]] || found+="${found:+, }$name is $version"
    done
    stop "Python 3.11, 3.12 or 3.13 is needed; found: ${found:-${PYTHON:-nothing on the path}}." \
        "Install one (Debian, Ubuntu: apt-get install python3 python3-venv) or set PYTHON=/path/to/python3"
}

free_megabytes() { df -Pk "$venv" | awk 'NR == 2 { print int($4 / 1024) }'; }

# After a failed command: what went wrong, in one line where that is clear.
explain() {
    if (($(free_megabytes) < 50)) || grep -q "No space left on device" "$log" 2>/dev/null; then
        stop "$1 failed: the disk is full ($(free_megabytes) MB free for $venv, ${TMPDIR:-/tmp} may be" \
            "another); make room for $needed_megabytes MB and run again"
    elif grep -q "Read-only file system" "$log" 2>/dev/null; then
        stop "$1 failed: a file system is read-only ($(grep -m1 "Read-only file system" "$log"))"
    fi
    tail -n 15 "$log" >&2 || true
    stop "$1 failed; the lines above end $log"
}

run_pip() {
    local what=$1
    shift
    "$venv/bin/python" -m pip "$@" >>"$log" 2>&1 || explain "$what"
}

make_venv() {
    local failed=""
    if ! mkdir -p "$venv" 2>/dev/null || ! touch "$venv/made-by-setup" 2>/dev/null; then
        stop "cannot write to $venv (read-only or full disk?); set XLM_VENV to a folder that can be written"
    fi
    (($(free_megabytes) >= needed_megabytes)) || {
        local free
        free=$(free_megabytes)
        rm -rf "$venv"
        stop "the disk is too full: $free MB free for $venv, $needed_megabytes MB needed"
    }
    touch "$venv/unfinished"
    "$python" -m venv "$venv" >>"$log" 2>&1 || failed=yes
    if [[ $failed ]] && { ! "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        grep -q "ensurepip is not" "$log"; }; then
        rm -rf "$venv"
        stop "$python has no venv module: install it (Debian, Ubuntu: apt-get install" \
            "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')) and run again"
    fi
    [[ ! $failed ]] || explain "making a virtual environment"
    share_torch
}

# A torch that the interpreter below the virtual environment already has is kept.
share_torch() {
    local folders
    folders=$("$python" - 2>/dev/null <<'PYTHON'
import sys, torch
assert tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)
print(*(path for path in sys.path if path.endswith(("site-packages", "dist-packages"))), sep="\n")
PYTHON
    ) || return 0
    printf '%s\n' "$folders" >"$("$venv/bin/python" -c 'import sysconfig
print(sysconfig.get_path("purelib"))')/torch_of_base_python.pth"
}

# As pip knows it: torch itself may call its 2.6.0 "2.6.0+cu124".
torch_version() {
    "$venv/bin/python" -c 'import importlib.metadata, torch
assert tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)
print(importlib.metadata.version("torch"))' 2>/dev/null
}

install() {
    local version
    local -a arguments
    if version=$(torch_version); then
        echo "torch $version is there: kept"
    else
        arguments=($("$venv/bin/python" "$root/tools/torch_build.py")) || stop "torch was not installed"
        echo "installing ${arguments[-1]}"
        run_pip "installing torch" install "${arguments[@]}"
        version=$(torch_version) || stop "the torch that was installed cannot be imported; see $log"
    fi
    echo "installing xlm-pretrain[$1] and what it needs"
    echo "torch==$version" >"$venv/constraints.txt"
    run_pip "installing xlm-pretrain" install --constraint "$venv/constraints.txt" --editable "$root[$1]"
    # From elsewhere, so that the checkout itself is not what is found.
    (cd / && "$venv/bin/python" -c 'import sys, xlm
sys.exit(not (xlm.__file__ or "").startswith(sys.argv[1]))' "$root/") ||
        stop "another package named xlm hides this one in $venv:" \
            "$(cd / && "$venv/bin/python" -c 'import xlm; print(xlm.__file__)')"
}

# Whatever changes it asks for a new installation.
fingerprint() {
    {
        echo "$root $venv"
        "$venv/bin/python" -VV
        cat "$root/pyproject.toml" "$root/setup.py" "$root/tools/setup.sh" "$root/tools/torch_build.py"
    } | sha256sum
}

is_fit() {
    local wanted
    wanted=$("$venv/bin/python" -c "$python_version" 2>/dev/null) || return 1
    [[ -z ${PYTHON:-} || $wanted == "$("$PYTHON" -c "$python_version" 2>/dev/null)" ]]
}

prepare_environment() {
    local extra=$1 start=$SECONDS stamp
    local needed_megabytes=2500 python
    if command -v flock >/dev/null && { exec 9>>"$venv.lock"; } 2>/dev/null; then
        flock 9 # two scripts started at once
    fi
    if [[ -e $venv/unfinished || (-e $venv/made-by-setup && ! -e $venv/bin/python) ]] || ! is_fit; then
        find_python
        if [[ -e $venv/made-by-setup ]]; then
            echo "$venv is unfinished or of another Python: starting afresh"
            rm -rf "$venv"
        elif [[ -e $venv ]]; then
            stop "$venv is no virtual environment of Python 3.11-3.13, or half installed: move it away, or set XLM_VENV"
        fi
        make_venv
    fi
    stamp=$(fingerprint)
    if [[ ! -e $venv/installed-$extra && -e $venv/installed-dev ]]; then
        extra=dev # which holds all that the scripts need
    fi
    if [[ $(cat "$venv/installed-$extra" 2>/dev/null) != "$stamp" ]]; then
        touch "$venv/unfinished" 2>/dev/null || stop "cannot write to $venv (read-only or full disk?)"
        rm -f "$venv"/installed-*
        install "$extra"
        echo "$stamp" >"$venv/installed-$extra"
        rm -f "$venv/unfinished"
    fi
    exec 9>&-
    export PATH="$venv/bin:$PATH"
    install_seconds=$((SECONDS - start))
}
