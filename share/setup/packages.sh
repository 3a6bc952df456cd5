# shellcheck shell=bash disable=SC2034
# Sourced by share/quickstart.sh and tests/run.sh: finds or installs the packages they need.
#
#   need_packages NAME LIST...   makes sure that all packages of LIST are installed. NAME is printed.
#
# Debian 12 and Ubuntu 24.04: apt-get, through sudo when not root. M5_NO_INSTALL=1 installs nothing
# and says what is missing; so does a system without apt-get.

M5_BUILD_PACKAGES=(cmake g++ ninja-build pkg-config libdnnl-dev libhwy-dev libhts-dev zlib1g-dev
                   libssl-dev libbigwig-dev libcli11-dev nlohmann-json3-dev)
M5_TEST_PACKAGES=(ccache libgtest-dev clang-14 clang-format-14 clang-tidy-14 libclang-rt-14-dev mandoc
                  tabix bedtools samtools python3-numpy python3-dev pybind11-dev python3-pybigwig
                  bowtie2-examples ragout-examples)
# The cross compiler is 200 MB on disk. The libraries of aarch64 are fetched by tests/packaging/aarch64.sh.
M5_PACKAGING_PACKAGES=(git python3-jinja2 python3-yaml qemu-user g++-aarch64-linux-gnu)
# About 80 MB to fetch and 1 GB on disk, most of it what snakemake and multiqc depend on.
M5_WORKFLOW_PACKAGES=(snakemake multiqc python3-matplotlib python3-yaml python3-cheetah)

missing_packages() {
  local name
  for name in "$@"; do
    case "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" in
      installed) ;;
      *) echo "$name" ;;
    esac
  done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "not root and no sudo: cannot run $*" >&2
    return 1
  fi
}

apt_quiet() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >"$apt_log" 2>&1
}

need_packages() {
  local purpose=$1
  shift
  if ! command -v dpkg-query >/dev/null; then
    echo "No dpkg here: please see to it that the counterparts of these are installed: $*" >&2
    return 0
  fi
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" = 0 ] && return 0
  if [ "${M5_NO_INSTALL:-0}" = 1 ]; then
    echo "Missing for $purpose (M5_NO_INSTALL=1, so nothing is installed):" >&2
    echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
    return 1
  fi
  if ! command -v apt-get >/dev/null; then
    echo "Missing for $purpose, and there is no apt-get: ${missing[*]}" >&2
    return 1
  fi
  echo "Installing for $purpose: ${missing[*]}"
  local apt_log
  apt_log=$(mktemp)
  # Package lists are fetched where there are none, and once more where the ones there are stale.
  local listed=0
  compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null && listed=1
  if [ "$listed" = 0 ]; then apt_quiet update || true; fi
  if ! apt_quiet install -y --no-install-recommends "${missing[@]}"; then
    if ! { [ "$listed" = 1 ] && apt_quiet update &&
           apt_quiet install -y --no-install-recommends "${missing[@]}"; }; then
      tail -n 5 "$apt_log" >&2
      echo "apt-get could not install: ${missing[*]}" >&2
      rm -f "$apt_log"
      return 1
    fi
  fi
  rm -f "$apt_log"
}
