# shellcheck shell=bash
# The control plane and moto: how each is started and when it is ready.
# shellcheck disable=SC2154 # the paths are rig's

is_ready() { # NAME
  local address
  address=$(address_of "$1")
  case $1 in
    etcd) http "$address/readyz" ;;
    kube-apiserver) http --cacert "$PKI/apiserver.crt" "$address/readyz" ;;
    kube-controller-manager)
      http --cacert "$PKI/controller-manager/kube-controller-manager.crt" "$address/healthz" &&
        serviceaccounts_are_made
      ;;
    moto) http "$address/moto-api/" ;;
    operator*) http "$address/readyz" ;;
  esac
}

# No redirection around a function: a message about Ctrl-C would go there too.
serviceaccounts_are_made() {
  KUBECONFIG=$ADMIN_KUBECONFIG KUBECACHEDIR=$RIG_DIR/kubecache "$(bin kubectl)" \
    get serviceaccount default --namespace default -o name >/dev/null 2>&1
}

http() { curl --silent --fail --noproxy '*' --max-time 5 --output /dev/null "$@"; }

kubectl() { KUBECONFIG=$ADMIN_KUBECONFIG KUBECACHEDIR=$RIG_DIR/kubecache "$(bin kubectl)" "$@"; }

start_control_plane() {
  local ports
  read -ra ports < <(free_ports 4)
  ADMIN_TOKEN=$(openssl rand -hex 24)
  start_etcd "${ports[0]}" "${ports[1]}"
  make_pki
  wait_ready etcd 30
  start_apiserver "${ports[2]}" "http://127.0.0.1:${ports[0]}"
  wait_ready kube-apiserver 90
  take_ca
  write_kubeconfig "$ADMIN_KUBECONFIG" rig-admin "$ADMIN_TOKEN" default
  start_controller_manager "${ports[3]}"
}

start_etcd() { # CLIENT-PORT PEER-PORT
  local client=http://127.0.0.1:$1 peer=http://127.0.0.1:$2
  start etcd "$client" "$(bin etcd)" --name rig --data-dir "$RIG_DIR/etcd" --unsafe-no-fsync \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "rig=$peer" \
    --log-level warn
}

make_pki() {
  step pki
  mkdir -p "$PKI"
  chmod 700 "$PKI"
  openssl genrsa -out "$PKI/service-account.key" 2048 >"$STEP_LOG" 2>&1
  printf '%s,rig-admin,rig-admin,system:masters\n' "$ADMIN_TOKEN" >"$PKI/tokens.csv"
}

start_apiserver() { # PORT ETCD
  # 0: never begun anew, or what was written before would be looked for in vain.
  local audit=(--audit-policy-file "$RIG_SRC/audit.yaml" --audit-log-path "$LOGS/audit.log" --audit-log-maxsize 0)
  [[ ${RIG_AUDIT:-on} == on ]] || audit=()
  start kube-apiserver "https://127.0.0.1:$1" "$(bin kube-apiserver)" \
    --etcd-servers "$2" --bind-address 127.0.0.1 --secure-port "$1" --advertise-address 127.0.0.1 \
    --endpoint-reconciler-type none --service-cluster-ip-range 10.0.0.0/24 \
    --cert-dir "$PKI" --token-auth-file "$PKI/tokens.csv" --authorization-mode RBAC \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$PKI/service-account.key" \
    --service-account-signing-key-file "$PKI/service-account.key" "${audit[@]}"
}

# The API server made its own certificate; the authority that signed it comes last in the file.
take_ca() {
  awk '/BEGIN CERTIFICATE/ { pem = "" } { pem = pem $0 "\n" } END { printf "%s", pem }' \
    "$PKI/apiserver.crt" >"$PKI/ca.crt"
}

start_controller_manager() { # PORT
  start kube-controller-manager "https://127.0.0.1:$1" "$(bin kube-controller-manager)" \
    --kubeconfig "$ADMIN_KUBECONFIG" --leader-elect=false \
    --bind-address 127.0.0.1 --secure-port "$1" --cert-dir "$PKI/controller-manager" \
    --root-ca-file "$PKI/ca.crt" \
    --service-account-private-key-file "$PKI/service-account.key"
}

write_kubeconfig() { # FILE USER TOKEN NAMESPACE
  (umask 077 && cat >"$1") <<YAML
apiVersion: v1
kind: Config
clusters:
- name: rig
  cluster:
    server: $(address_of kube-apiserver)
    certificate-authority-data: $(base64 <"$PKI/ca.crt" | tr -d '\n')
users:
- name: $2
  user:
    token: $3
contexts:
- name: rig
  context: {cluster: rig, user: $2, namespace: $4}
current-context: rig
YAML
}

# An address in AWS_ENDPOINT_URL is the user's, unless it came from a rig's own env file.
given_endpoint() {
  [[ ${AWS_ENDPOINT_URL:-} == "${RIG_MOTO_URL:-}" ]] || echo "${AWS_ENDPOINT_URL:-}"
}

start_moto() {
  local port
  port=$(free_ports 1)
  start moto "http://127.0.0.1:$port" env MOTO_IAM_LOAD_MANAGED_POLICIES=true \
    "$VENV/bin/python" "$RIG_SRC/moto/serve" -H 127.0.0.1 -p "$port"
}

check_endpoint() { # URL: does anything answer, whatever it says?
  step aws
  curl --silent --noproxy '*' --max-time 10 --output /dev/null "$1" 2>"$STEP_LOG" ||
    die "AWS_ENDPOINT_URL=$1 does not answer"
}

# The lines of the env file. The user's AWS profile and keys never meet the rig's own moto.
write_env() { # GIVEN-ENDPOINT
  local endpoint=$1 path=$BIN key=test secret=test region=us-east-1
  if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then path=$KUBEBUILDER_ASSETS:$BIN; fi
  if [[ -n $endpoint ]]; then
    key=${AWS_ACCESS_KEY_ID:-$key} secret=${AWS_SECRET_ACCESS_KEY:-$secret} region=${AWS_REGION:-$region}
  else
    endpoint=$(address_of moto)
  fi
  {
    echo "# Made by tests/rig/rig up; to be sourced."
    if [[ -z $1 ]]; then
      echo "unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL_IAM AWS_ENDPOINT_URL_STS"
      export_line RIG_MOTO_URL "$endpoint"
    fi
    export_line AWS_ENDPOINT_URL "$endpoint"
    export_line AWS_ACCESS_KEY_ID "$key"
    export_line AWS_SECRET_ACCESS_KEY "$secret"
    export_line AWS_REGION "$region"
    export_line AWS_DEFAULT_REGION "$region" # for boto3 and the aws command
    export_line AWS_EC2_METADATA_DISABLED true
    export_line RIG_DIR "$RIG_DIR"
    export_line KUBECONFIG "$ADMIN_KUBECONFIG"
    export_line KUBECACHEDIR "$RIG_DIR/kubecache"
    export_line RIG_OPERATOR_KUBECONFIG "$OPERATOR_KUBECONFIG"
    export_line RIG_PATH "$path"
    cat <<'SH'
case ":$PATH:" in *":$RIG_PATH:"*) ;; *) export PATH="$RIG_PATH:$PATH" ;; esac
SH
  } >"$ENV_FILE.new"
  chmod 600 "$ENV_FILE.new"
  mv "$ENV_FILE.new" "$ENV_FILE"
}

export_line() { printf 'export %s=%q\n' "$1" "$2"; }
