#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# demo: the same program on the CPU of this process and on a djinn server, and what that costs.
#
# `generate` knows only a device string. It runs once with --device cpu, then with --device djinn: the first time it
# brings the weights to the server, the second time the server has them. A last, shorter run tells what one token costs
# in bytes: the difference of two runs, divided by the tokens between them. `./dev demo` builds both programs and calls this.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
examples/demo.sh [options]
  --prompt TEXT    what to ask (default: a short story)
  --tokens N       length of the answer (default 128)
  --threads N      compute threads of either side (default 1)
  --dtype T        fp32 or bf16 (default fp32)
  --kv KIND        cat or static (default cat)
  --server URL     use a running server instead of starting one
  --build DIR      where the binaries are (default build/release)
  --model DIR      default models/smollm2-135m-instruct
TEXT
}

die() { echo "demo: $*" >&2; exit 1; }

prompt="Write a short story about a lighthouse keeper who finds a message in a bottle."
tokens=128 threads=1 dtype=fp32 kv=cat server="" build=build/release model=models/smollm2-135m-instruct
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --prompt | --tokens | --threads | --dtype | --kv | --server | --build | --model)
      (($# > 1)) || die "$1 needs a value"
      printf -v "${1#--}" %s "$2"; shift 2 ;;
    *) usage >&2; die "unknown option $1" ;;
  esac
done
[[ $tokens =~ ^[0-9]+$ ]] && ((tokens >= 8)) || die "--tokens must be a number, at least 8"
[[ -x $build/bin/generate ]] || die "$build/bin/generate is not there: ./dev build"
[[ -f $model/converted.json ]] || die "$model is not there: ./dev setup"
python=python3
[[ -x .venv/bin/python ]] && python=.venv/bin/python

scratch=$(mktemp -d)
server_pid=""
stop() {
  if [[ -n $server_pid ]] && kill -TERM "$server_pid" 2>/dev/null; then
    for _ in {1..50}; do kill -0 "$server_pid" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$server_pid" 2>/dev/null || true
    wait "$server_pid" 2>/dev/null || true
  fi
  rm -rf "$scratch"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start_server() {
  [[ -x $build/bin/djinn-server ]] || die "$build/bin/djinn-server is not there: ./dev build"
  "$build/bin/djinn-server" --listen tcp://127.0.0.1:0 --device cpu --threads "$threads" >"$scratch/server" 2>&1 &
  server_pid=$!
  for _ in {1..200}; do
    server=$(grep -m1 -oE 'tcp://[0-9A-Za-z.:_-]+:[1-9][0-9]*' "$scratch/server" || true)
    [[ -z $server ]] || return 0
    kill -0 "$server_pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$scratch/server" >&2
  die "the server did not start"
}

# run NAME DEVICE TOKENS: streams the text, keeps the two lines of JSON that generate and the device print at the end.
run() {
  local name=$1 device=$2 count=$3
  DJINN_SERVER=$server DJINN_STATS=1 "$build/bin/generate" --model "$model" --prompt "$prompt" --device "$device" \
    --dtype "$dtype" --kv "$kv" --max-new-tokens "$count" --threads "$threads" --ignore-eos --stats \
    2>"$scratch/$name.err" && return 0
  cat "$scratch/$name.err" >&2
  [[ -z $server_pid ]] || { echo "--- the server's last lines:"; tail -n 20 "$scratch/server"; } >&2
  die "generate --device $device failed"
}

bold() { if [[ -t 1 ]]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }

[[ -n $server ]] || start_server
echo "server: $server${server_pid:+ (process $server_pid)}"
echo "prompt: $prompt"
bold "--device cpu"
run cpu cpu "$tokens"
bold "--device djinn, first run: the weights travel"
run first djinn "$tokens"
bold "--device djinn, second run: the server has the weights"
run second djinn "$tokens"
run short djinn $((tokens / 4)) >/dev/null
bold "result"
"$python" - "$scratch" <<'PYTHON'
import json, pathlib, sys


def lines(name):
    """The JSON objects that a run printed: generate's has `answers`, the device's has `bytes_sent`."""
    generate, device = None, {}
    for line in (pathlib.Path(sys.argv[1]) / f"{name}.err").read_text().splitlines():
        start = line.find("{")
        try:
            value = json.loads(line[start:]) if start >= 0 else None
        except ValueError:
            continue
        if isinstance(value, dict) and "answers" in value:
            generate = value
        elif isinstance(value, dict) and "bytes_sent" in value:
            device = value
    if generate is None:
        sys.exit(f"demo: generate printed no figures in run {name}")
    return generate, device


def row(label, *cells):
    print(f"  {label:<26}" + "".join(f"{cell:>16}" for cell in cells))


def size(count):
    return "?" if count is None else f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count:,.0f} B"


names = ("cpu", "first", "second", "short")
runs = {name: lines(name) for name in names}
shown = [runs[name] for name in names[:3]]
row("", "cpu", "djinn, first", "djinn, second")
row("tokens/s", *(f"{generate['tokens_per_s']:.2f}" for generate, _ in shown))
row("rate / rate of cpu", *(f"{generate['tokens_per_s'] / shown[0][0]['tokens_per_s']:.3f}" for generate, _ in shown))
row("model loaded in", *(f"{generate['load_s']:.2f} s" for generate, _ in shown))
row("first token after", *(f"{generate['first_token_s']:.2f} s" for generate, _ in shown))
row("weights uploaded", "-", *(size(device.get("upload_bytes")) for _, device in shown[1:]))


def per_token(field):
    """Of the second run, which is like the short one but for its length."""
    (long, more), (short, less) = runs["second"], runs["short"]
    if field not in more or field not in less or long["tokens"] == short["tokens"]:
        return "?"
    return f"{(more[field] - less[field]) / (long['tokens'] - short['tokens']):.1f} B"


row("per token, up / down", "-", "", f"{per_token('bytes_sent')} / {per_token('bytes_received')}")
expected = shown[0][0]["answers"][0]["ids"]
for name in names[1:]:
    ids = runs[name][0]["answers"][0]["ids"]
    wanted = expected if name != "short" else expected[: len(expected) // 4]
    if ids != wanted:
        at = next((i for i, (a, b) in enumerate(zip(ids, wanted)) if a != b), min(len(ids), len(wanted)))
        sys.exit(f"demo: tokens of the {name} run differ from those of the CPU, first at token {at}")
print(f"  the tokens are the same: {len(expected)} of {len(expected)}")
PYTHON
