# shellcheck shell=bash
# What the user calls: up, operator, status, env, down, build, python, ministack.
# shellcheck disable=SC2154 # the paths are rig's

cmd_up() {
  local with_operator=1
  case ${1:-} in
    '') ;;
    --no-operator) with_operator= ;;
    *) usage >&2; exit 2 ;;
  esac
  watch_exit
  check_up "$with_operator"
  mkdir -p "$LOGS"
  lock_rig
  undo_on_failure
  if [[ -n $with_operator ]]; then ensure_operator_built; fi
  if is_up; then
    say "already up (a changed chart needs 'down' first)"
  else
    bring_up
  fi
  settle_operator "$with_operator"
  print_help
  trap - EXIT HUP INT TERM
}

lock_rig() {
  exec 9>"$RIG_DIR/lock"
  lock 9
}

# Everything that can be seen to be wrong before anything is started.
check_up() { # WITH-OPERATOR
  local tools=(/proc curl openssl awk python3 flock setsid sha256sum base64)
  check_assets
  if [[ -n $(stale_binaries) ]]; then tools+=(go); fi
  if [[ -z $(given_endpoint) ]] && is_venv_stale moto; then tools+=(python3-venv); fi
  if [[ -n $1 && -z ${IAMROLE_BIN:-} ]]; then tools+=(cargo); fi
  need "${tools[@]}"
  check_chart
  check_operator_bin
}

# Up means: it came up to its end, with this endpoint, and all that was started is ready.
is_up() {
  local name given names=(etcd kube-apiserver kube-controller-manager)
  given=$(given_endpoint)
  [[ -f $ENV_FILE && -f $RUN/endpoint && $(cat "$RUN/endpoint") == "$given" ]] || return 1
  if [[ -z $given ]]; then names+=(moto); fi
  for name in "${names[@]}"; do
    is_alive "$name" && is_ready "$name" || return 1
  done
}

bring_up() {
  local given
  given=$(given_endpoint)
  if [[ -d $RUN ]]; then say "what is left of the last rig is not healthy, or another AWS is wanted: starting anew"; fi
  stop_all
  clear_state
  build build_binaries
  if [[ -z $given ]]; then build build_venv moto; else check_endpoint "$given"; fi
  say "starting"
  mkdir -p "$RUN"
  if [[ -z $given ]]; then start_moto; fi
  start_control_plane
  install_chart
  make_operator_kubeconfig
  wait_ready kube-controller-manager 60
  if [[ -z $given ]]; then wait_ready moto 60; fi
  echo "$given" >"$RUN/endpoint"
  write_env "$given"
}

# The operator is to run or not to run, whichever way it was before.
settle_operator() { # WITH-OPERATOR
  if [[ -z $1 ]]; then
    stop operator
  elif ! is_operator_up; then
    stop operator
    start_operator
  fi
}

is_operator_up() { is_alive operator && is_ready operator; }

ensure_operator_built() { is_operator_up || build_operator; }

clear_state() {
  rm -rf "$RUN" "$PKI" "$RIG_DIR/etcd" "$RIG_DIR/helm" "$RIG_DIR/kubecache"
  rm -f "$LOGS"/audit*.log "$ADMIN_KUBECONFIG" "$OPERATOR_KUBECONFIG" "$ENV_FILE" "$ENV_FILE.new"
}

print_help() {
  local rig=tests/rig/rig
  cat <<TEXT

The rig is up: Kubernetes $(kubectl version -o json | sed -nE '/serverVersion/,$ s/.*"gitVersion": "([^"]+)".*/\1/p'), AWS at $(
    # shellcheck disable=SC1090
    source "$ENV_FILE" && echo "$AWS_ENDPOINT_URL"
  )

  source $(short "$ENV_FILE")   # KUBECONFIG, AWS_ENDPOINT_URL, keys, PATH
  kubectl get iamroles -A
  kubectl label namespace default iamrole.dev/enabled=true
  $rig status                # what runs; logs are in $(short "$LOGS")
  $rig operator              # the operator in the foreground, after: $rig up --no-operator
  $rig down
TEXT
}

cmd_operator() {
  local port listen=()
  need /proc curl python3 setsid
  check_operator_bin
  [[ -f $ENV_FILE ]] || die "the rig is not up: tests/rig/rig up --no-operator"
  if is_alive operator; then say "note: an operator runs already (pid $(pid_of operator)); this one may wait for its lease"; fi
  if [[ -z ${IAMROLE_BIN:-} ]]; then
    need cargo
    env -C "$ROOT" cargo build --bin iamrole
  fi
  make_operator_kubeconfig
  enter_operator_env
  port=$(free_ports 1)
  if [[ " $* " != *" --listen"* ]]; then listen=(--listen "127.0.0.1:$port"); fi
  say "operator at http://127.0.0.1:$port"
  record "operator-$$" "$$" "http://127.0.0.1:$port"
  exec "$(operator_bin)" run "${listen[@]}" "$@"
}

cmd_status() {
  local file name state bad=0 found=
  for file in "$RUN"/*.pid; do
    [[ -f $file ]] || continue
    found=1
    name=$(basename "$file" .pid)
    if ! is_alive "$name"; then state=dead bad=1
    elif is_ready "$name"; then state=ready
    else state='not ready' bad=1; fi
    printf '%-24s %-8s %-28s %s\n' "$name" "$(pid_of "$name")" "$(address_of "$name")" "$state"
  done
  if [[ -z $found ]]; then
    say "not up"
    return 1
  fi
  if [[ -s $RUN/endpoint && -n $(cat "$RUN/endpoint") ]]; then
    printf '%-24s %-8s %-28s %s\n' aws - "$(cat "$RUN/endpoint")" 'not ours'
  fi
  return "$bad"
}

cmd_env() {
  [[ -f $ENV_FILE ]] || die "the rig is not up: tests/rig/rig up"
  cat "$ENV_FILE"
}

cmd_down() {
  need /proc flock
  mkdir -p "$RIG_DIR"
  lock_rig
  stop_all
  clear_state
  say "down"
}

cmd_build() {
  local tools=(flock setsid sha256sum)
  GO_BINARIES+=(helm3) # not needed to come up
  check_assets
  if [[ -n $(stale_binaries) ]]; then tools+=(go); fi
  if is_venv_stale ministack; then tools+=(python3 python3-venv); fi
  need "${tools[@]}"
  watch_exit
  build build_binaries
  build build_venv ministack
  trap - EXIT HUP INT TERM
  say "built: $(short "$BIN")"
}

# The Python of moto's venv, which has boto3; made if missing.
cmd_python() {
  need flock setsid sha256sum python3
  if is_venv_stale moto; then need python3-venv; fi
  watch_exit
  build build_venv moto
  trap - EXIT HUP INT TERM
  exec "$VENV/bin/python" "$@"
}

# ministack in the foreground, with a caller that holds its standard input: it ends with that.
cmd_ministack() { # PORT
  (($# == 1)) || { usage >&2; exit 2; }
  need flock setsid sha256sum python3
  if is_venv_stale ministack; then need python3-venv; fi
  watch_exit
  build build_venv ministack
  trap - EXIT HUP INT TERM
  exec "$RIG_HOME/ministack/bin/python" "$RIG_SRC/ministack/serve" "$1"
}
