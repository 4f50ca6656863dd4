#!/usr/bin/env bash
# Installs what building STP needs and this machine lacks, through the system's package manager.
#
#   tools/install-dependencies.sh                what the build needs
#   tools/install-dependencies.sh --sanitizers   also what tests/run.sh in its full form needs (clang 19, spin); done without where not to be had
#   tools/install-dependencies.sh --programs     also the programs that the end-to-end test of `stp run` uses (servers among them: for test machines)
#   tools/install-dependencies.sh --machines     also QEMU and a kernel, with which tests/vm boots machines (46 MB of packages in Debian 12)
#   tools/install-dependencies.sh --check        installs nothing; names what is missing
#
# Asks for root through sudo where it is not root. Exit status: 0 everything is there, 1 something needed is missing (named), 2 usage.
set -euo pipefail

want_sanitizers=no
want_programs=no
want_machines=no
check_only=no
for argument in "$@"; do
  case $argument in
    --sanitizers) want_sanitizers=yes ;;
    --programs) want_programs=yes ;;
    --machines) want_machines=yes ;;
    --check) check_only=yes ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

say() { printf 'install-dependencies: %s\n' "$*" >&2; }

# Debian's names are the ones that are tested; those of the others are a best effort.
extras=()
programs=()
machines=()
if command -v apt-get >/dev/null; then
  manager=apt-get
  packages=(meson ninja-build g++ pkg-config libfmt-dev libssl-dev liburing-dev libisal-dev libxxhash-dev libgtest-dev libcli11-dev
            nlohmann-json3-dev libedit-dev libblkid-dev libtomlplusplus-dev prometheus-cpp-dev libspdlog-dev libfuse3-dev fuse3)
  extras=(clang-19 libclang-rt-19-dev spin)
  programs=(curl netcat-openbsd socat iperf3 redis-server redis-tools nginx-light wrk rsync openssh-server openssh-client postgresql)
  machines=(qemu-system-x86 linux-image-cloud-amd64 busybox e2fsprogs socat)
  installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
  refresh() { as_root apt-get -q update; }
  install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@"; }
elif command -v dnf >/dev/null; then
  manager=dnf
  packages=(meson ninja-build gcc-c++ pkgconf-pkg-config fmt-devel openssl-devel liburing-devel isa-l-devel xxhash-devel gtest-devel cli11-devel
            json-devel libedit-devel libblkid-devel tomlplusplus-devel prometheus-cpp-devel spdlog-devel fuse3-devel fuse3)
  extras=(clang compiler-rt libasan libubsan libtsan)
  installed() { rpm -q --quiet "$1"; }
  refresh() { :; }
  install() { as_root dnf -q -y install "$@"; }
elif command -v zypper >/dev/null; then
  manager=zypper
  packages=(meson ninja gcc-c++ pkg-config fmt-devel libopenssl-devel liburing-devel isa-l-devel xxhash-devel gtest cli11-devel
            nlohmann_json-devel libedit-devel libblkid-devel tomlplusplus-devel prometheus-cpp-devel spdlog-devel fuse3-devel fuse3)
  extras=(clang)
  installed() { rpm -q --quiet "$1"; }
  refresh() { :; }
  install() { as_root zypper -q -n install "$@"; }
elif command -v pacman >/dev/null; then
  manager=pacman
  packages=(meson ninja gcc pkgconf fmt openssl liburing isa-l xxhash gtest cli11 nlohmann-json libedit util-linux-libs tomlplusplus prometheus-cpp spdlog fuse3)
  extras=(clang compiler-rt)
  installed() { pacman -Q "$1" >/dev/null 2>&1; }
  refresh() { :; }
  install() { as_root pacman -S --needed --noconfirm "$@"; }
else
  say 'no package manager that this script knows (apt-get, dnf, zypper, pacman); needed are, by their names in Debian:'
  say '  meson (1.0.1 or later) ninja-build g++ (12 or later) pkg-config libfmt-dev libssl-dev liburing-dev libisal-dev libxxhash-dev'
  say '  libgtest-dev libcli11-dev nlohmann-json3-dev libedit-dev libblkid-dev libtomlplusplus-dev prometheus-cpp-dev libspdlog-dev libfuse3-dev fuse3'
  say 'going on as if they were there'
  exit 0
fi

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing=()
for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
wanted=()
servers=()
machinery=()
if [ $want_sanitizers = yes ]; then
  for package in "${extras[@]}"; do installed "$package" || wanted+=("$package"); done
fi
if [ $want_programs = yes ]; then
  export RUNLEVEL=1 # the servers are not to start
  for package in "${programs[@]}"; do installed "$package" || servers+=("$package"); done
fi
if [ $want_machines = yes ]; then
  for package in "${machines[@]}"; do installed "$package" || machinery+=("$package"); done
fi
[ $((${#missing[@]} + ${#wanted[@]} + ${#servers[@]} + ${#machinery[@]})) = 0 ] && exit 0

if [ $check_only = yes ]; then
  say "missing: ${missing[*]} ${wanted[*]} ${servers[*]} ${machinery[*]}"
  [ ${#missing[@]} = 0 ]
  exit
fi
if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
  say "not root, and there is no sudo. Missing: ${missing[*]} ${wanted[*]}"
  say "have them installed, as root: $manager install ${missing[*]} ${wanted[*]}"
  [ ${#missing[@]} = 0 ]
  exit
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Package managers talk a lot; only a failure is worth reading, and not the addresses in it.
quietly() { "$@" >"$log" 2>&1 || { sed -E 's#[a-z+]+://[^ ]*#(address)#g' "$log" | tail -n 15 >&2; return 1; }; }

say "installing with $manager: ${missing[*]} ${wanted[*]} ${servers[*]} ${machinery[*]}"
quietly refresh || say "$manager could not refresh its lists; trying with the ones that are there"
if [ ${#missing[@]} != 0 ] && ! quietly install "${missing[@]}"; then
  say "$manager could not install: ${missing[*]}"
  say "have them installed, as root: $manager install ${missing[*]}"
  exit 1
fi
if [ ${#wanted[@]} != 0 ] && ! quietly install "${wanted[@]}"; then
  say "not to be had here: ${wanted[*]}; the sanitizer builds use g++ then, and the models are not checked without spin"
fi
if [ ${#servers[@]} != 0 ] && ! quietly install "${servers[@]}"; then
  say "not to be had here: ${servers[*]}; the end-to-end test leaves out what is missing, and names it"
fi
if [ ${#machinery[@]} != 0 ] && ! quietly install "${machinery[@]}"; then
  say "not to be had here: ${machinery[*]}; the test with machines is skipped"
fi
