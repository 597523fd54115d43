# shellcheck shell=bash
# Messages, steps and their failure, the lock, missing tools, ports.
# shellcheck disable=SC2154 # the paths are rig's

STEP=      # what is being done, for the report of a failure
STEP_LOG=  # where its output goes
UNDO=      # set where a failure has to end everything that was started

say() { printf 'rig: %s\n' "$*" >&2; }

die() {
  say "$@"
  exit 1
}

# A path as the user would write it.
short() { printf '%s' "${1#"$ROOT"/}"; }

# step NAME: from here on a failure is a failure of NAME, whose output is in logs/NAME.log.
step() {
  STEP=$1
  STEP_LOG=$LOGS/$1.log
}

# Any end of the script passes here, Ctrl-C and `set -e` too.
on_exit() {
  local code=$?
  trap - EXIT
  ((code)) || exit 0
  trap '' INT TERM HUP
  [[ -z $STEP ]] || report_failure "$code"
  [[ -z $UNDO ]] || stop_all
  stop_jobs
  if [[ -n $UNDO ]]; then
    clear_state
    say "nothing is left running"
  fi
  exit "$code"
}

report_failure() {
  case $1 in
    129 | 130 | 143)
      say "interrupted at step '$STEP'"
      return 0 # a bare return would have the status from before the trap
      ;;
  esac
  say "step '$STEP' failed"
  [[ -s $STEP_LOG ]] || return 0
  say "the end of $(short "$STEP_LOG"):"
  tail -n 20 "$STEP_LOG" | sed 's/^/  | /' >&2
}

undo_on_failure() { UNDO=1; }

watch_exit() {
  trap on_exit EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# lock FD: its file belongs to one rig command at a time. Whatever is started closes 8 and 9.
lock() {
  flock -n "$1" && return
  say "waiting for another rig command to finish"
  flock "$1" &
  wait "$!"
}

# need TOOL…: all that are missing are named at once.
need() {
  local tool missing=0
  for tool in "$@"; do
    have "$tool" && continue
    say "missing: $tool - $(how_to_get "$tool")"
    missing=1
  done
  ((missing == 0)) || exit 1
}

have() {
  case $1 in
    python3) python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ;;
    python3-venv) python3 -c 'import venv, ensurepip' 2>/dev/null ;;
    /proc) [[ -r /proc/self/stat ]] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

how_to_get() {
  case $1 in
    go) echo "Go 1.26 or newer: https://go.dev/dl" ;;
    cargo) echo "Rust: https://rustup.rs (or set IAMROLE_BIN to a built operator)" ;;
    python3) echo "Python 3.10 or newer: Debian package python3" ;;
    python3-venv) echo "Python's venv and ensurepip: Debian package python3-venv" ;;
    flock | setsid) echo "Debian package util-linux" ;;
    sha256sum | base64) echo "Debian package coreutils" ;;
    /proc) echo "the rig needs Linux (WSL will do)" ;;
    awk) echo "Debian package mawk" ;;
    *) echo "Debian package $1" ;;
  esac
}

# N free ports of 127.0.0.1, outside the range from which the system serves outgoing connections.
free_ports() {
  python3 - "$1" <<'PYTHON'
import random, socket, sys

held = []
while len(held) < int(sys.argv[1]):
    held.append(socket.socket())
    try:
        held[-1].bind(("127.0.0.1", random.randrange(20000, 32000)))
    except OSError:
        held.pop().close()
print(*(s.getsockname()[1] for s in held))
PYTHON
}
