# shellcheck shell=bash
# The chart, the token of its ServiceAccount, and the operator that runs with it.
# shellcheck disable=SC2154 # the paths are rig's

check_chart() {
  [[ -f $CHART/Chart.yaml ]] || die "no chart at $(short "$CHART") (RIG_CHART names another)"
}

install_chart() {
  local more
  read -ra more <<<"${RIG_HELM_ARGS:-}"
  run helm env KUBECONFIG="$ADMIN_KUBECONFIG" HELM_CACHE_HOME="$RIG_DIR/helm/cache" \
    HELM_CONFIG_HOME="$RIG_DIR/helm/config" HELM_DATA_HOME="$RIG_DIR/helm/data" \
    "$(bin helm)" upgrade --install "$RELEASE" "$CHART" \
    --namespace "$NAMESPACE" --create-namespace "${more[@]}"
}

# The operator gets what its ServiceAccount may do and no more.
make_operator_kubeconfig() {
  local token
  step token
  token=$(kubectl create token "$RELEASE" --namespace "$NAMESPACE" --duration 24h 2>"$STEP_LOG")
  write_kubeconfig "$OPERATOR_KUBECONFIG" "$RELEASE" "$token" "$NAMESPACE"
}

operator_bin() {
  local target=${CARGO_TARGET_DIR:-target}
  if [[ -n ${IAMROLE_BIN:-} ]]; then
    realpath "$IAMROLE_BIN"
  else
    [[ $target == /* ]] || target=$ROOT/$target
    echo "$target/debug/iamrole"
  fi
}

check_operator_bin() {
  [[ -z ${IAMROLE_BIN:-} || -x $IAMROLE_BIN ]] || die "IAMROLE_BIN=$IAMROLE_BIN is not a program"
}

build_operator() {
  [[ -z ${IAMROLE_BIN:-} ]] || return 0
  say "building the operator"
  run build-operator env -C "$ROOT" cargo build --bin iamrole
}

# In this shell: the environment of the operator, which is env's but for the kubeconfig.
enter_operator_env() {
  # shellcheck disable=SC1090 # made by write_env
  source "$ENV_FILE"
  export KUBECONFIG=$OPERATOR_KUBECONFIG
  unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy # the API server is on loopback
}

start_operator() {
  local port
  port=$(free_ports 1)
  enter_operator_env
  start operator "http://127.0.0.1:$port" "$(operator_bin)" run --listen "127.0.0.1:$port"
  wait_ready operator 60
}
