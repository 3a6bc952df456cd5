# shellcheck shell=bash
# make_sysroot FOLDER: Debian's libraries for aarch64 that m5 needs, unpacked under FOLDER. Nothing is installed and
# the package manager of the machine is left as it is: it keeps its own lists in FOLDER.state.
make_sysroot() {
  local root=$1 state=$1.state package
  mkdir -p "$root" "$state/lists/partial" "$state/archives/partial"
  touch "$state/status"
  local apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$state"
    -o Dir::State::status="$state/status" -o Dir::Cache="$state" -o Dir::Cache::archives="$state/archives"
    -o APT::Install-Recommends=false -o Debug::NoLocking=1 -o APT::Sandbox::User=)
  "${apt[@]}" update || return 1
  "${apt[@]}" install --download-only -y libhts-dev zlib1g-dev libssl-dev libbigwig-dev libdnnl-dev libhwy-dev \
    libcli11-dev nlohmann-json3-dev libgtest-dev libstdc++6 || return 1
  for package in "$state"/archives/*.deb; do
    # The headers of the C library are the cross compiler's own.
    case $(basename "$package") in libc6-dev_* | linux-libc-dev_* | libc-dev-bin_*) continue ;; esac
    dpkg-deb -x "$package" "$root" || return 1
  done
}
