# shellcheck shell=bash
# Sourced, not run:  source scripts/environment.sh run|dev
# Leaves $root (the repository) and $python (an interpreter with what attnbench needs; for `dev` also what its checks
# need), and puts that interpreter's commands first on PATH.
# Without ATTN_PYTHON it is .venv at the root, made and brought up to date only when it has to be.
# With ATTN_PYTHON it is that interpreter as it stands: nothing is ever installed into it.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
stamp=$venv/.attnbench/stamp # what the environment was made from; written last, so an interrupted install has none

say() { printf 'attnbench: %s\n' "$*" >&2; }
die() { say "$@" && exit 1; }

# A venv breaks when it is moved or when its interpreter is replaced: both are part of what it was made from.
origin() { printf '%s\n' "$root" "$(readlink -f "$venv/bin/python")"; }
# Compared as text, so that a start that has nothing to do runs no Python and needs no hash tool.
wanted() { origin && cat "$root/pyproject.toml" "$root/constraints.txt"; }

# True where .venv is complete and up to date for $1, `run` or `dev`.
ready() {
    [[ -x $venv/bin/python && -r $stamp && ($1 == run || -e $venv/.attnbench/dev) && $(<"$stamp") == "$(wanted)" ]]
}

# Runs a command in the root that ends with this shell: a signal to the shell alone, as GitHub's runner sends it, would leave
# pip installing, and holding the lock.
attended() {
    local child status=0 signalled=''
    (cd "$root" && exec "$@") &
    child=$!
    trap 'signalled=yes; kill "$child"' HUP INT TERM
    wait "$child" || status=$?
    trap - HUP INT TERM
    [[ -z $signalled ]] || { wait "$child" || exit 143; }
    return "$status"
}

make_venv() {
    local base='' name
    for name in python3 python python3.14 python3.13 python3.12 python3.11 python3.10; do
        # The versions that constraints.txt has pins for.
        "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null || continue
        base=$(command -v "$name") && break
    done
    [[ -n $base ]] || die "found no Python 3.10 to 3.14 on PATH; install one, or set ATTN_PYTHON to an interpreter that has torch"
    "$base" -c 'import venv, ensurepip' 2>/dev/null || die "$base has no venv module; install it (on Debian and Ubuntu" \
        "the package python3-venv), or set ATTN_PYTHON to an interpreter that has torch"
    # The folder .attnbench says that this .venv is ours, before anything else is in it.
    { rm -rf "$venv" && mkdir -p "$venv/.attnbench" && "$base" -m venv --prompt attnbench "$venv"; } >&2 ||
        die "could not make $venv; the lines above say why"
}

install() {
    local group=$1 pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input)
    # Of what is installed a quarter of the files is ever imported: Python compiles those then, on all cores.
    local pinned=(install --no-compile --constraint constraints.txt)
    local args=(--build-constraint constraints.txt --editable '.[nvml,report]')
    [[ ! -e $venv || -d $venv/.attnbench ]] || die "$venv was not made by this script; remove it to have one made here," \
        "or use it as it stands with ATTN_PYTHON=$venv/bin/python"
    if [[ -x $venv/bin/python && $(head -n 2 "$stamp" 2>/dev/null) == "$(origin)" ]]; then
        [[ ! -e $venv/.attnbench/dev ]] || group=dev # what scripts/test installed follows the pins too
        rm "$stamp"
    else
        make_venv
    fi
    [[ $group == run ]] || args+=(--group "$group")
    [[ -t 2 ]] || pip+=(--quiet) # a progress bar only where someone may be watching
    say "installing into $venv (on the first start and when pins change)"
    # pip first: the one that a venv is born with may be too old to know --group and --build-constraint.
    { attended "${pip[@]}" "${pinned[@]}" --upgrade pip && attended "${pip[@]}" "${pinned[@]}" "${args[@]}"; } >&2 ||
        die "installing into $venv failed; the lines above say why. The next start begins again;" \
            "where torch is installed already, ATTN_PYTHON=python3 uses that interpreter instead"
    [[ $group == run ]] || touch "$venv/.attnbench/$group"
    wanted >"$stamp.new" && mv "$stamp.new" "$stamp"
}

use_venv() {
    ready "$1" && return
    if command -v flock >/dev/null; then # one start at a time; the lock is on the root directory and leaves no file
        exec 9<"$root"
        flock --nonblock 9 || { say "waiting for another start to finish installing" && flock 9; } || true
    fi
    ready "$1" || install "$1"
    exec 9<&-
}

if [[ -n ${ATTN_PYTHON:-} ]]; then
    python=$(command -v "$ATTN_PYTHON") || die "ATTN_PYTHON=$ATTN_PYTHON is not a program; give the path of a Python interpreter"
    [[ $python == /* ]] || python=$PWD/$python
    "$python" "$root/scripts/check_python.py" "$root/pyproject.toml" "$1" || exit
    # attnbench need not be installed there: it is imported from this clone, and conftest.py loads its plugin.
    export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
else
    unset PYTHONDONTWRITEBYTECODE # some containers set it, and every process would compile what it imports again
    use_venv "$1"
    python=$venv/bin/python
fi
PATH=$(dirname "$python"):$PATH
