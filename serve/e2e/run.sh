#!/bin/sh
# run.sh [slow] [go test flags]: the end-to-end tests, or the slow ones, from
# packages to verdict.
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "run.sh: the end-to-end tests need root, for network namespaces" >&2; exit 1; }

set=-skip
if [ "${1-}" = slow ]; then
    set=-run
    shift
    serve/e2e/install.sh slow
else
    serve/e2e/install.sh
fi

go build -o .e2e/bin/bmctl ./cmd/bmctl
CGO_ENABLED=0 go build -ldflags '-s -w' -o .e2e/bin/guest ./serve/e2e/guest
exec go test -tags e2e -vet=off -count=1 -timeout 10m -v "$set" '^TestSlow' "$@" ./serve/e2e
