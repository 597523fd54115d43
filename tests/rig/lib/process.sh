# shellcheck shell=bash
# Processes. Each has a file run/NAME.pid: "PID START ADDRESS". START is when the process was
# started, so that a process which got the same number later is never taken for it.
# shellcheck disable=SC2154 # the paths are rig's

# started PID: boot and clock tick at which PID was started; fails if it is gone or a zombie.
started() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  read -ra fields <<<"${stat##*) }" # after "pid (name) ": state is 0, group 2, start 19
  [[ ${fields[0]} != [ZX] ]] || return 1
  printf '%s/%s' "$(cat /proc/sys/kernel/random/boot_id)" "${fields[19]}"
}

is_running() { [[ "$(started "$1")" == "$2" ]]; } # PID START

# record NAME PID ADDRESS
record() {
  local start
  start=$(started "$2") || start=gone
  mkdir -p "$RUN"
  printf '%s %s %s\n' "$2" "$start" "$3" >"$RUN/$1.pid"
}

pid_of() { cut -d ' ' -f 1 "$RUN/$1.pid"; }
address_of() { cut -d ' ' -f 3 "$RUN/$1.pid"; }

is_alive() { # NAME
  local pid start rest
  [[ -f $RUN/$1.pid ]] || return 1
  read -r pid start rest <"$RUN/$1.pid" || return 1
  : "$rest"
  is_running "$pid" "$start"
}

# start NAME ADDRESS COMMAND…: in the background, in a session of its own, beyond Ctrl-C.
start() {
  local name=$1 address=$2
  shift 2
  step "$name"
  setsid "$@" >"$STEP_LOG" 2>&1 </dev/null 8>&- 9>&- &
  record "$name" "$!" "$address"
}

# run NAME COMMAND…: to its end. In the background, so that a signal need not wait for it.
run() {
  step "$1"
  shift
  setsid "$@" >"$STEP_LOG" 2>&1 </dev/null 8>&- 9>&- &
  wait "$!"
}

# wait_ready NAME SECONDS
wait_ready() {
  local deadline=$((SECONDS + $2))
  step "$1"
  until is_ready "$1"; do
    is_alive "$1" || die "$1 ended before it was ready"
    ((SECONDS < deadline)) || die "$1 was not ready after $2 s"
    sleep 0.1
  done
}

# send SIGNAL PID: to its whole group where it leads one.
send() { kill "-$1" -- "-$2" 2>/dev/null || kill "-$1" "$2" 2>/dev/null || true; }

# finish PID START: TERM, after ten seconds KILL; returns when it is gone.
finish() {
  local pid=$1 start=$2 deadline=$((SECONDS + 10)) signal=TERM
  is_running "$pid" "$start" || return 0
  send TERM "$pid"
  while is_running "$pid" "$start"; do
    if ((SECONDS >= deadline)) && [[ $signal == TERM ]]; then
      signal=KILL
      send KILL "$pid"
    fi
    sleep 0.05
  done
}

stop() { # NAME
  local pid start rest
  [[ -f $RUN/$1.pid ]] || return 0
  read -r pid start rest <"$RUN/$1.pid" || true
  : "$rest"
  finish "$pid" "$start"
  rm -f "$RUN/$1.pid"
}

# Operators first, so that they can still give back their lease; etcd last.
stop_all() {
  local file name
  for file in "$RUN"/operator*.pid; do
    name=$(basename "$file" .pid)
    stop "$name"
  done
  for name in kube-controller-manager kube-apiserver moto etcd; do stop "$name"; done
}

# Whatever this very shell started and that is in no file.
stop_jobs() {
  local pid start
  for pid in $(jobs -rp); do
    start=$(started "$pid") || continue
    finish "$pid" "$start"
  done
}
