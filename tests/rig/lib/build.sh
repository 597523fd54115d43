# shellcheck shell=bash
# The binaries and the emulators' venvs, made again only when their pins change.
# shellcheck disable=SC2154 # the paths are rig's

GO_BINARIES=(etcd kube-apiserver kube-controller-manager kubectl helm)

module_of() {
  case $1 in
    etcd | helm | helm3) echo "$1" ;;
    *) echo kubernetes ;;
  esac
}

package_of() {
  case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    helm) echo helm.sh/helm/v4/cmd/helm ;;
    helm3) echo helm.sh/helm/v3/cmd/helm ;;
    *) echo "k8s.io/kubernetes/cmd/$1" ;;
  esac
}

# The version that a module of ours pins: pinned kubernetes -> v1.36.3
pinned() {
  sed -nE "s#^(require)?\s*($(main_module "$1")) (v[0-9.]+).*#\3#p" "$RIG_SRC/$1/go.mod" | head -n 1
}

main_module() {
  case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    helm) echo helm.sh/helm/v4 ;;
    helm3) echo helm.sh/helm/v3 ;;
    kubernetes) echo k8s.io/kubernetes ;;
  esac
}

# What the programs say their version is: the Go linker writes it in.
link_flags() {
  local version major minor package flags='-s -w'
  version=$(pinned "$1")
  IFS=. read -r major minor _ <<<"${version#v}"
  case $1 in
    kubernetes)
      for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor"
      done
      ;;
    helm) flags+=" -X helm.sh/helm/v4/internal/version.version=$version" ;;
    helm3)
      flags+=" -X helm.sh/helm/v3/internal/version.version=$version"
      # The Kubernetes that it renders for where there is no cluster; Helm 4 finds it out by itself.
      minor=$(sed -nE 's#^\s*k8s.io/client-go v0\.([0-9]+)\..*#\1#p' "$RIG_SRC/helm3/go.mod")
      flags+=" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=$minor"
      ;;
  esac
  echo "$flags"
}

digest() { sha256sum 2>/dev/null | cut -d ' ' -f 1; } # a missing tool is reported by need

pins_of() { # MODULE
  { cat "$RIG_SRC/$1/go.mod" "$RIG_SRC/$1/go.sum" && link_flags "$1"; } | digest
}

# bin NAME: where that program is.
bin() {
  if [[ -n ${KUBEBUILDER_ASSETS:-} && -x $KUBEBUILDER_ASSETS/$1 ]]; then
    echo "$KUBEBUILDER_ASSETS/$1"
  else
    echo "$BIN/$1"
  fi
}

is_stale() { # NAME: has it to be built?
  [[ $(bin "$1") == "$BIN/$1" ]] || return 1
  [[ -x $BIN/$1 && $(cat "$BIN/.$1.pins" 2>/dev/null) == "$(pins_of "$(module_of "$1")")" ]] || return 0
  return 1
}

stale_binaries() {
  local name
  for name in "${GO_BINARIES[@]}"; do
    if is_stale "$name"; then echo "$name"; fi
  done
}

check_assets() {
  local name missing=()
  [[ -n ${KUBEBUILDER_ASSETS:-} ]] || return 0
  for name in etcd kube-apiserver kubectl; do
    [[ -x $KUBEBUILDER_ASSETS/$name ]] || missing+=("$name")
  done
  ((${#missing[@]} == 0)) || die "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no ${missing[*]}"
}

build_binaries() {
  local stale module name names
  mapfile -t stale < <(stale_binaries)
  ((${#stale[@]})) || return 0
  for module in etcd helm helm3 kubernetes; do
    names=()
    for name in "${stale[@]}"; do
      if [[ $(module_of "$name") == "$module" ]]; then names+=("$name"); fi
    done
    ((${#names[@]} == 0)) || build_module "$module" "${names[@]}"
  done
}

# build_module MODULE NAME…
build_module() {
  local module=$1 name packages=() new=$BIN/.new
  shift
  for name in "$@"; do packages+=("$(package_of "$name")"); done
  say "building $* $(pinned "$module")$([[ $module != kubernetes ]] || echo " (the first time, some minutes)")"
  rm -rf "$new"
  mkdir -p "$new"
  run "build-$module" env CGO_ENABLED=0 GOWORK=off go -C "$RIG_SRC/$module" build \
    -mod=readonly -trimpath -buildvcs=false -ldflags "$(link_flags "$module")" -o "$new/" "${packages[@]}"
  case $module in # Go names them after their folders
    etcd) mv "$new/server" "$new/etcd" ;;
    helm3) mv "$new/helm" "$new/helm3" ;;
  esac
  for name in "$@"; do
    mv "$new/$name" "$BIN/$name"
    pins_of "$module" >"$BIN/.$name.pins"
  done
  rm -rf "$new"
}

# The emulators are Python: moto and ministack, each in a venv of its own.
venv_pins() { { echo "$RIG_HOME/$1" && cat "$RIG_SRC/$1/requirements.txt"; } | digest; } # NAME

is_venv_stale() { [[ $(cat "$RIG_HOME/$1/.pins" 2>/dev/null) != "$(venv_pins "$1")" ]]; } # NAME

build_venv() { # NAME
  is_venv_stale "$1" || return 0
  say "installing $(grep "^$1==" "$RIG_SRC/$1/requirements.txt")"
  run "build-$1" python3 -m venv --clear "$RIG_HOME/$1"
  run "build-$1" "$RIG_HOME/$1/bin/python" -m pip install --quiet --disable-pip-version-check \
    --requirement "$RIG_SRC/$1/requirements.txt"
  venv_pins "$1" >"$RIG_HOME/$1/.pins"
}

# build WHAT…: two rigs of one checkout share what is built: one builds, the other waits.
build() {
  mkdir -p "$BIN" "$LOGS"
  step build
  exec 8>"$RIG_HOME/build.lock"
  lock 8
  "$@"
  exec 8>&-
}

tools_to_build() { # the tools that are needed for what is stale
  if [[ -n $(stale_binaries) ]]; then echo go; fi
}
