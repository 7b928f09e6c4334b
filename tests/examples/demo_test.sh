#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The demo's own logic, with stand-ins for the server and for generate: it says yes only to equal tokens, and whatever
# happens, its server is gone afterwards. (The real thing is ./dev demo.)
set -uo pipefail
demo=$(dirname "${BASH_SOURCE[0]}")/../../examples/demo.sh
box=$(mktemp -d)
trap 'rm -rf "$box"' EXIT
mkdir -p "$box/bin" "$box/model"
echo '{}' >"$box/model/converted.json"

cat >"$box/bin/djinn-server" <<'STANDIN'
#!/usr/bin/env bash
echo $$ >"$BOX/server.pid"
[[ ${BROKEN_SERVER:-} ]] && { echo "no such device"; exit 1; }
echo "listening on tcp://127.0.0.1:4567"
trap 'exit 0' TERM
while :; do sleep 0.1; done
STANDIN
cat >"$box/bin/generate" <<'STANDIN'
#!/usr/bin/env python3
import json, os, sys
option = dict(zip(sys.argv[1:], sys.argv[2:]))
remote, count = option["--device"] == "djinn", int(option["--max-new-tokens"])
ids = list(range(count))
if remote:
    assert os.environ["DJINN_SERVER"] == "tcp://127.0.0.1:4567", os.environ["DJINN_SERVER"]
    if os.environ.get("BROKEN_GENERATE"):
        sys.exit("connection refused")
    if os.environ.get("WRONG_TOKEN"):
        ids[3] += 1
    print("log line {not json}", file=sys.stderr)
    print("djinn " + json.dumps({"bytes_sent": 5000 + 40 * count, "bytes_received": 100 + 30 * count,
                                 "upload_bytes": 538000000}), file=sys.stderr)
print("some text")
print(json.dumps({"tokens": count, "tokens_per_s": 20.0, "load_s": 0.1, "first_token_s": 0.2,
                  "answers": [{"ids": ids}]}), file=sys.stderr)
STANDIN
chmod +x "$box/bin/"*
export BOX=$box

failures=0
# check NAME EXPECTED-STATUS EXPECTED-TEXT [VARIABLE=VALUE]
check() {
  local out status=0
  out=$(env "${@:4}" bash "$demo" --build "$box" --model "$box/model" --tokens 32 2>&1) || status=$?
  if [[ $status != "$2" || $out != *"$3"* ]]; then
    echo "FAILED: $1 (status $status)"; echo "$out"; failures=$((failures + 1))
  fi
  if kill -0 "$(cat "$box/server.pid")" 2>/dev/null; then
    echo "FAILED: $1 left its server behind"; kill -KILL "$(cat "$box/server.pid")"; failures=$((failures + 1))
  fi
}
check "equal tokens" 0 "the tokens are the same: 32 of 32" A=
check "bytes per token" 0 "40.0 B / 30.0 B" A=
check "uploaded bytes" 0 "538.0 MB" A=
check "a wrong token" 1 "first at token 3" WRONG_TOKEN=1
check "generate fails" 1 "connection refused" BROKEN_GENERATE=1
check "the server fails" 1 "no such device" BROKEN_SERVER=1
((failures == 0)) && echo "the demo says what is so"
exit $((failures > 0))
