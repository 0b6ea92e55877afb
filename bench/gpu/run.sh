#!/usr/bin/env bash
# Everything that is to be known of the CUDA device, in one run of under ten minutes: builds, checks numerics, serves
# known text, measures operations and models, looks for bad accesses and races, and prints a short table last.
#
#   run.sh [options] [build FOLDER | measure FOLDER OUT | both FOLDER OUT]
#
# build      makes FOLDER, which holds all that `measure` runs, with libraries: it can be taken to another machine
# measure    runs on the machine with the GPU; complete results are written to OUT
# both       is the default, with build-gpu/bundle and build-gpu/results
#
# --emulated       the same at toy size under the emulation of tests/cuda_emulation, without a GPU
# --quick          the emulated run in seconds: no more than what shows that the script works
# --arch A         code for this architecture alone, such as 90a
# --built TREE     takes what was built in this tree of CMake
# --seconds N      of `measure` in all (570)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
emulated=0 quick=0 arch= tree= seconds=570 words=()
while [ $# -gt 0 ]; do
  case $1 in
    --emulated) emulated=1 ;;
    --quick) quick=1 ;;
    --arch) arch=$2; shift ;;
    --built) tree=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    -*) sed -n '2,/^set/{/^#/!d;s/^# \{0,1\}//;p}' "$0"; exit 1 ;;
    *) words+=("$1") ;;
  esac
  shift
done
python=$(command -v python3)
if [ $emulated = 1 ]; then
  default=$root/build-gpu-emulated test_prefix=test_cuda_ bench=bench_operations_emulated
else
  default=$root/build-gpu test_prefix=gpu_test_ bench=bench_operations
fi
tests=(rows quantize product product_engine experts attention_plan attention_in attention sample peaks backend)
[ $quick = 0 ] || tests=(rows peaks)

# ------------------------------------------------------------------------------------------------------------- build

build_tree() {
  local options=(-DCMAKE_BUILD_RPATH=\$ORIGIN) targets=(optima)
  if [ $emulated = 1 ]; then
    options+=(-DOPTIMA_CUDA=off)
    targets+=(optima_cuda_emulated_plugin bench_operations_emulated "${tests[@]/#/test_cuda_}")
  else
    options+=(-DOPTIMA_CUDA=on -DOPTIMA_TESTS=OFF -DOPTIMA_GPU_TESTS=ON)
    [ -z "$arch" ] || options+=("-DOPTIMA_CUDA_CODE=$arch,sm_$arch")
    targets+=(optima_cuda bench_operations "${tests[@]/#/gpu_test_}")
  fi
  command -v ccache >/dev/null && options+=(-DCMAKE_{C,CXX,CUDA}_COMPILER_LAUNCHER=ccache)
  tree=$default
  local log=$tree/run.log
  mkdir -p "$tree"
  echo "Building into $tree"
  cmake -S "$root" -B "$tree" -G Ninja "${options[@]}" >"$log" 2>&1 || { tail -n 20 "$log"; exit 1; }
  cmake --build "$tree" --parallel "$(nproc)" --target "${targets[@]}" >>"$log" 2>&1 ||
    { grep -E 'error|FAILED' "$log" | head -n 40; exit 1; }
}

# Shared libraries that neither glibc nor the CUDA toolkit brings.
copy_libraries() {
  local folder=$1
  ldd "$folder"/optima "$folder/$test_prefix${tests[0]}" 2>/dev/null |
    awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
    grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*|libcublas[^/]*|libnccl[^/]*|libcuda[^/]*)\.so' |
    while read -r library; do [[ $library -ef $folder/${library##*/} ]] || cp -L "$library" "$folder/"; done
}

build() {
  local folder=$1 stories=$root/../shared/data/models/stories260K
  mkdir -p "$folder"
  [ -n "$tree" ] || build_tree
  cp "$tree/optima" "$folder/"
  if [ $emulated = 1 ]; then
    mkdir -p "$folder/emulated"
    cp "$tree/emulated/liboptima_cuda.so" "$folder/emulated/"
    cp "${tests[@]/#/$tree/tests/cuda_emulation/test_cuda_}" "$tree/tests/cuda_emulation/$bench" "$folder/"
  else
    cp "$tree/liboptima_cuda.so" "${tests[@]/#/$tree/bench/gpu/gpu_test_}" "$tree/bench/gpu/$bench" "$folder/"
  fi
  find "$folder" -maxdepth 2 -type f -perm -u+x -exec strip --strip-unneeded {} +
  copy_libraries "$folder"
  if [ -d "$stories/hf" ]; then
    mkdir -p "$folder/shared/data/models/stories260K"
    cp -rL "$stories/hf" "$stories/expected_greedy.json" "$folder/shared/data/models/stories260K/"
  fi
  echo "$folder: $(du -sh "$folder" | cut -f1)"
}

# ----------------------------------------------------------------------------------------------------------- measure

# stage NAME SECONDS COMMAND...: runs within its time and what is left of all; its output goes to OUT/logs/NAME.log.
stage() {
  local name=$1 limit=$2 started=$SECONDS status=0 left=$((seconds - SECONDS))
  shift 2
  [ "$limit" -lt "$left" ] || limit=$left
  if [ "$limit" -le 0 ]; then
    echo "$name,no time,0" >>"$out/stages.csv"
    return 0
  fi
  timeout -k 5 "$limit" "$@" >"$out/logs/$name.log" 2>&1 || status=$?
  case $status in
    0) status=ok ;;
    124 | 137) status="ended after $limit s" ;;
    *) status="failed ($status)" ;;
  esac
  echo "$name,$status,$((SECONDS - started))" >>"$out/stages.csv"
  echo "$name: $status, $((SECONDS - started)) s"
}

# Where the toolkit is not where it was built, PyTorch's packages have cuBLASLt and NCCL.
find_cuda_libraries() {
  ldd "$folder/liboptima_cuda.so" | grep -q 'not found' || return 0
  local found
  found=$("$python" - <<'PYTHON'
import importlib.util, pathlib
spec = importlib.util.find_spec("nvidia")
roots = [pathlib.Path(p) for p in (spec.submodule_search_locations if spec else [])] + [pathlib.Path("/usr/local/cuda")]
wanted = ("libcublasLt.so.13", "libnccl.so.2")
print(":".join({str(p.parent) for root in roots for name in wanted for p in root.rglob(name)}))
PYTHON
  ) || true
  export LD_LIBRARY_PATH=$found:${LD_LIBRARY_PATH:-}
  ldd "$folder/liboptima_cuda.so" | grep 'not found' >&2 && { echo "These libraries are missing" >&2; exit 1; }
  return 0
}

describe_device() {
  date -u '+date,%Y-%m-%d %H:%M UTC' >"$out/device.csv"
  if [ $emulated = 1 ]; then
    echo "device,emulated" >>"$out/device.csv"
  else
    local device
    device=$(nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader 2>&1) || true
    echo "device,$device" >>"$out/device.csv"
  fi
}

# Up to eight at a time: no times are taken.
sanitize() {
  local tool=$1 options=() name
  shift
  [ "$tool" != memcheck ] || options=(--report-api-errors no) # tests ask for more memory than there is
  if ! command -v compute-sanitizer >/dev/null; then
    echo "compute-sanitizer $tool: skipped, the tool is not here"
    return 0
  fi
  for name in "$@"; do
    stage "$tool-$name" 90 compute-sanitizer --tool "$tool" "${options[@]}" --error-exitcode 9 \
      "$folder/$test_prefix$name" &
    while [ "$(jobs -rp | wc -l)" -ge 8 ]; do wait -n || true; done
  done
  wait
}

measure_models() {
  local shape weights shapes=("$root"/bench/shapes/{llama-3.1-8b,qwen3-0.6b,qwen3-30b-a3b}.json) formats=(bf16 fp8 int4)
  local size=(-p 1024 -n 64 -b 1,8,64,256 --rows 2048)
  if [ $emulated = 1 ]; then
    shapes=("$root"/bench/gpu/{toy,toy_experts}.json) size=(-p 16 -n 3 -b 1,2 --rows 16)
    [ $quick = 0 ] || formats=(bf16)
  fi
  for shape in "${shapes[@]}"; do
    for weights in "${formats[@]}"; do
      stage "model-$(basename "$shape" .json)-$weights" 60 "$folder/optima" bench-model --device "$device" --json \
        --random-weights "$shape" --weights "$weights" "${size[@]}"
    done
  done
}

measure() {
  folder=$(cd "$1" && pwd) out=$2
  mkdir -p "$out"
  out=$(cd "$out" && pwd)
  rm -rf "$out"/logs "$out"/{logs.tar.gz,operations.csv,stages.csv}
  mkdir "$out/logs"
  SECONDS=0
  local name toy=() known=(cuda)
  device=cuda
  if [ $emulated = 1 ]; then
    device=$folder/emulated/liboptima_cuda.so toy=(--toy)
  else
    find_cuda_libraries
  fi
  [ $quick = 0 ] || known=(cuda.Cuda.test_greedy_text_is_exact)
  describe_device
  if [ $emulated = 0 ] && command -v cuobjdump >/dev/null; then
    stage machine-code 60 "$python" "$root/tests/cuda/sass.py" cuobjdump "$folder/liboptima_cuda.so"
  fi
  for name in "${tests[@]}"; do stage "numerics-$name" 60 "$folder/$test_prefix$name"; done
  stage serve 90 "$python" "$root/tests/e2e/run.py" --binary "$folder/optima" --shared "$folder/shared" \
    --device "$device" "${known[@]}"
  stage operations 200 "$folder/$bench" "${toy[@]}" --csv "$out/operations.csv"
  measure_models
  sanitize memcheck "${tests[@]}"
  sanitize racecheck "${tests[@]}"
  "$python" "$root/bench/gpu/report.py" "$out" | tee "$out/table.txt"
  # One file, so that little has to be fetched.
  tar -C "$out" -czf "$out/logs.tar.gz" logs && rm -r "$out/logs"
  ! grep -qE ',(failed|ended|no time)' "$out/stages.csv"
}

case "${words[0]:-both}" in
  build) build "${words[1]:-$default/bundle}" ;;
  measure) measure "${words[1]:-$default/bundle}" "${words[2]:-$default/results}" ;;
  both)
    build "${words[1]:-$default/bundle}"
    measure "${words[1]:-$default/bundle}" "${words[2]:-$default/results}"
    ;;
  *) echo "run.sh: no command ${words[0]}" >&2; exit 1 ;;
esac
