# What scripts/run, scripts/test and scripts/tidy share: packages and builds. To be sourced.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { echo "$(basename "$0"): $*" >&2; }

# listed_packages <list...>: those of scripts/packages.<list>.
listed_packages() {
  local list
  for list in "$@"; do
    sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$root/scripts/packages.$list"
  done
}

# Those of them that are not installed.
missing_packages() {
  local package
  while read -r package; do
    if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
      echo "$package"
    fi
  done < <(listed_packages "$@")
}

# install_packages <list...>: what is missing of them. Asks apt for nothing when all is there.
install_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "this is no Debian: going on with what is installed. Needed are, by Debian 12's names:"
    say "  $(listed_packages "$@" | tr '\n' ' ')"
    return
  fi
  local missing as_root=()
  mapfile -t missing < <(missing_packages "$@")
  if ((${#missing[@]} == 0)); then return; fi
  local needed="apt-get install --no-install-recommends ${missing[*]}"
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      say "packages are missing, and neither root nor sudo is here to install them. As root:"
      say "  $needed"
      return 1
    fi
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  if ! { "${as_root[@]}" apt-get update &&
         "${as_root[@]}" apt-get install --yes --no-install-recommends "${missing[@]}"; } >&2; then
    say "packages could not be installed. Made for Debian 12; by hand it is, as root:"
    say "  $needed"
    return 1
  fi
}

# Warnings are errors where they are known: with Debian 12's own compiler.
warnings_as_errors() {
  [[ $(. /etc/os-release 2>/dev/null && echo "${ID:-}-${VERSION_ID:-}") == debian-12 ]] &&
    echo ON || echo OFF
}

# Whether build/<preset> is configured, and has each of the -D arguments.
is_configured() {
  local cache="$root/build/$1/CMakeCache.txt" setting
  shift
  [[ -f $cache && -f "$(dirname "$cache")/build.ninja" ]] || return
  for setting in "$@"; do
    setting=${setting#-D}
    grep -q "^${setting%%=*}:[A-Z]*=${setting#*=}\$" "$cache" || return
  done
}

# build [--program] <preset> [target...]: all without a target. Does nothing that is done already.
# With --program the tests need not be there, nor what they need to be configured.
# CONDUCTOR_PRECOMPILE=OFF is for builds without precompiled headers.
build() {
  local settings=("-DCONDUCTOR_WERROR=$(warnings_as_errors)"
    "-DCONDUCTOR_PRECOMPILE=${CONDUCTOR_PRECOMPILE:-ON}") first=()
  # Without the first two of these ccache keeps nothing that is compiled with precompiled headers. With
  # the rest, what one clone has compiled another finds; nothing may
  # be edited or merged while it builds.
  export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_ctime,include_file_mtime
  export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=true
  if [[ $1 == --program ]]; then
    first+=(-DBUILD_TESTING=OFF)
    shift
  else
    settings+=(-DBUILD_TESTING=ON)
  fi
  local preset=$1
  shift
  if ! is_configured "$preset" "${settings[@]}"; then
    if [[ ! -f "$root/build/$preset/CMakeCache.txt" ]]; then settings+=("${first[@]}"); fi
    if command -v ccache >/dev/null; then
      settings+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
    fi
    (cd "$root" && cmake --preset "$preset" "${settings[@]}") >&2
  fi
  cmake --build "$root/build/$preset" --parallel "$(nproc)" ${1:+--target "$@"} >&2
}
