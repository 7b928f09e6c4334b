#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs a build folder into an empty prefix, builds the app beside this script with find_package(djinn), and runs it
# against the installed server:  tests/install/run.sh BUILD_DIR [CXX]
set -euo pipefail
ulimit -c 0  # The last run ends by an exception, on purpose.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$1 cxx=${2:-c++}

scratch=$(mktemp -d)
server=
stop() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  rm -rf "$scratch"
}
trap stop EXIT

cmake --install "$build" --prefix "$scratch/prefix" >"$scratch/install.log" || { cat "$scratch/install.log"; exit 1; }
(cd "$scratch/prefix" && find . -type f | sort)
# What it is run with as a service: the example is understood, and the unit starts the program with a config.
"$scratch/prefix/bin/djinn-server" --config "$scratch/prefix/share/djinn/djinn-server.toml" --print-config \
  | grep '^\[tenants.research\]' >/dev/null || { echo "the example config is not understood"; exit 1; }
grep -qE '^ExecStart=/[^@]*/bin/djinn-server --config /' "$scratch/prefix/lib/systemd/system/djinn-server.service"
launcher=()
! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
cmake -S "$here" -B "$scratch/app" -G Ninja -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_PREFIX_PATH="$scratch/prefix" "${launcher[@]}"
cmake --build "$scratch/app"

"$scratch/prefix/bin/djinn-server" --listen tcp://127.0.0.1:0 --device cpu --threads 1 >"$scratch/server.log" 2>&1 &
server=$!
address=
for _ in {1..300}; do
  address=$(grep -m1 -oE 'tcp://[0-9.]+:[1-9][0-9]*' "$scratch/server.log" || true)
  [[ -z $address ]] || break
  kill -0 "$server" 2>/dev/null || break
  sleep 0.1
done
[[ $address ]] || { echo "the installed server did not start:"; cat "$scratch/server.log"; exit 1; }

export OMP_NUM_THREADS=1 DJINN_SERVER=$address
local_numbers=$("$scratch/app/app" cpu)
remote_numbers=$("$scratch/app/app" djinn)
echo "cpu:   $local_numbers"
echo "djinn: $remote_numbers"
"$scratch/app/app_with_stats"

# The proof that the server did it: without one, the same program cannot.
kill "$server" && wait "$server" || true
server=
if "$scratch/app/app" djinn 2>"$scratch/orphan.err"; then
  echo "the app ran without a server"
  exit 1
fi
grep -q "$address" "$scratch/orphan.err" || { echo "its error does not name the server:"; cat "$scratch/orphan.err"; exit 1; }
[[ $local_numbers == "$remote_numbers" ]] || { echo "the numbers differ"; exit 1; }
