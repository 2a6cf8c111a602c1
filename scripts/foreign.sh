#!/usr/bin/env bash
# Installs the pinned foreign MQTT clients (paho-mqtt, mqtt.js) below the directory given.
# Cheap when they are there already: a stamp holds the sum of the files that pin them.
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: scripts/foreign.sh DIRECTORY" >&2
  exit 64
fi
pins=$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/foreign" && pwd)
mkdir -p "$1"
cd "$1"

# Two test processes may come here at once.
exec 9>lock
flock 9

wanted=$(cat "$pins/requirements.txt" "$pins/package.json" "$pins/package-lock.json" | sha256sum)
if [ "$wanted" = "$(cat stamp 2>/dev/null)" ]; then
  exit 0
fi

rm -rf stamp venv node_modules
python3 -m venv venv
venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check \
  --requirement "$pins/requirements.txt"
cp "$pins/package.json" "$pins/package-lock.json" .
npm ci --no-audit --no-fund --ignore-scripts --loglevel=error </dev/null
echo "$wanted" >stamp
