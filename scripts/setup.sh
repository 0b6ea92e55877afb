# Sourced by run.sh and test.sh: installs the Debian packages that are missing, saying so, and builds.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

build_packages=(gcc g++ cmake ninja-build pkg-config libuv1-dev node-llhttp libcjson-dev libutf8proc-dev libpcre2-dev)
test_packages=(libcmocka-dev python3-venv curl libopenmpi-dev openmpi-bin)

# install_packages NAME...: asks the package manager only for what is not there.
install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  echo "Installing Debian packages: ${missing[*]}${as_root:+ (through sudo)}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# build_into FOLDER [CMAKE OPTION...]
build_into() {
  local folder=$1 launcher=()
  shift
  command -v ccache >/dev/null && launcher=(-DCMAKE_{C,CXX,CUDA}_COMPILER_LAUNCHER=ccache)
  echo "Building into $folder"
  cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release "${launcher[@]}" "$@" >"$folder.log" 2>&1 ||
    { cat "$folder.log"; exit 1; }
  cmake --build "$folder" >>"$folder.log" 2>&1 || { grep -E 'error|warning|FAILED' "$folder.log" | head -n 40; exit 1; }
}
