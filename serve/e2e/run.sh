#!/bin/sh
# run.sh [go test flags]: the end-to-end test, from packages to verdict.
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "run.sh: the end-to-end test needs root, for network namespaces" >&2; exit 1; }

serve/e2e/install.sh
go build -o .e2e/bin/bmctl ./cmd/bmctl
CGO_ENABLED=0 go build -ldflags '-s -w' -o .e2e/bin/guest ./serve/e2e/guest
exec go test -tags e2e -vet=off -count=1 -timeout 10m -v "$@" ./serve/e2e
