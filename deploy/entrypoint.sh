#!/bin/sh
# Secrets come as files: NAME_FILE says where the value of NAME lies. Values never stand in a manifest.
set -eu
for name in DATABASE_URL FSSPEC_S3_KEY FSSPEC_S3_SECRET; do
    eval "file=\${${name}_FILE:-}"
    if [ -n "$file" ]; then
        export "$name=$(cat "$file")"
        unset "${name}_FILE"
    fi
done
exec "$@"
