#!/bin/sh
# Makes docs/openapi.json anew from what the server tells, and the client in Generated/ from that.
# The tests must be built. Kiota comes with 'dotnet tool install', which needs a network where it is not in the cache of packages.
set -eu
cd "$(dirname "$0")/../.."
MAKE_OPENAPI=1 artifacts/bin/Pandora.Tests/release/Pandora.Tests --filter-method '*The_document_in_the_repository_is_what_the_server_tells'
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
dotnet tool install Microsoft.OpenApi.Kiota --version 1.38.0 --tool-path "$tools"
# Offline: without it Kiota asks GitHub for a newer version of itself.
KIOTA_OFFLINE_ENABLED=true "$tools/kiota" generate -l CSharp -d docs/openapi.json -c PandoraApi -n Pandora.GeneratedClient \
  -o tests/Pandora.GeneratedClient/Generated --clean-output --exclude-backward-compatible
rm -f tests/Pandora.GeneratedClient/Generated/.kiota.log
sha256sum docs/openapi.json | cut -d' ' -f1 > tests/Pandora.GeneratedClient/Generated/openapi.sha256
