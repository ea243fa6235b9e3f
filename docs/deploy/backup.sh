#!/bin/sh
# Backup: copies the append-only files of a running Redis into one archive, as Redis 7.0 and later asks for: no rewrite may replace
# a file while it is copied. Redis goes on meanwhile; what it confirms later is not in the archive.
#
# Usage: backup.sh <socket or port of Redis> <archive.tar>
# It runs on the machine of Redis, as a user that may read its files. REDISCLI_AUTH has the password, if there is one.

set -eu

[ $# -eq 2 ] || { echo "usage: backup.sh <socket or port of Redis> <archive.tar>" >&2; exit 2; }
place=$1
archive=$2
case $place in
  *[!0-9]*) ask() { redis-cli -e -s "$place" "$@"; } ;;
  *) ask() { redis-cli -e -p "$place" "$@"; } ;;
esac
setting() { ask config get "$1" | sed -n 2p; }
told() { ask info persistence | tr -d '\r' | sed -n "s/^$1://p"; }

folder=$(setting dir)/$(setting appenddirname)
[ -d "$folder" ] || { echo "backup.sh: there is no $folder: appendonly is off, or Redis is elsewhere" >&2; exit 1; }

percentage=$(setting auto-aof-rewrite-percentage)
[ "$percentage" != 0 ] || percentage=100 # left so by a backup that was killed
trap 'ask config set auto-aof-rewrite-percentage "$percentage" >/dev/null; rm -f "$archive.part"' EXIT
trap 'exit 1' HUP INT TERM
ask config set auto-aof-rewrite-percentage 0 >/dev/null

waited=0
while [ "$(told aof_rewrite_in_progress)" != 0 ] || [ "$(told aof_rewrite_scheduled)" != 0 ]; do
  [ $waited -lt 600 ] || { echo "backup.sh: a rewrite took over 10 minutes; nothing was copied" >&2; exit 1; }
  waited=$((waited + 1))
  sleep 1
done

# 1 says that a file grew while it was read, which is what a running Redis' log does.
tar -C "${folder%/*}" -cf "$archive.part" "${folder##*/}" || [ $? -eq 1 ]
sync "$archive.part"
mv "$archive.part" "$archive"
echo "backup.sh: $archive has $(tar -tf "$archive" | grep -c '\.aof$') files of $folder"
