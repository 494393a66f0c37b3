#!/bin/sh
# Runs `recsys` with the loops that the image was built with: numba reads compiled code only from a folder that it can
# also write, and the image's file system may be read-only.
set -eu
if [ ! -d "$NUMBA_CACHE_DIR" ] && [ -d "$COMPILED_LOOPS" ]; then
    cp -R "$COMPILED_LOOPS" "$NUMBA_CACHE_DIR" || echo "no compiled loops in $NUMBA_CACHE_DIR: they are compiled again" >&2
fi
exec recsys "$@"
