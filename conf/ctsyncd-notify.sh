#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Notify script for keepalived: TYPE NAME STATE [PRIORITY].
#
# keepalived starts one of these for every change and does not wait for the one
# before.  Each leaves the state that it was called for and then, one at a
# time, brings the node to whatever state was asked for last: a takeover that
# is overtaken by a release is not carried out after it.
#
# Runs as root or as the user ctsync, who owns the runtime directory.

set -u

ctsync=${CTSYNC:-ctsync}
dir=${CTSYNC_RUNTIME_DIR:-/run/ctsyncd}
tag=ctsyncd-notify

say() {
	logger -t "$tag" -p "daemon.$1" -- "$2" 2>/dev/null || printf '%s: %s\n' "$tag" "$2" >&2
}

if [ $# -lt 3 ]; then
	echo "usage: $0 GROUP|INSTANCE NAME MASTER|BACKUP|FAULT|STOP [PRIORITY]" >&2
	exit 2
fi

case $3 in
MASTER)			want=takeover ;;
BACKUP|FAULT|STOP)	want=release ;;
*)			exit 0 ;;
esac

umask 077
if ! { echo "$want" >"$dir/notify.want.$$" && mv "$dir/notify.want.$$" "$dir/notify.want"; }; then
	say err "$dir cannot be written: is ctsyncd running, and is this root or the user ctsync?"
	# Without a place to wait in line, do at least what was asked for.
	exec "$ctsync" "$want"
fi

exec 9>>"$dir/notify.lock" || exit 1
flock 9 || exit 1

# What stands there now, which may be newer than what we were called for.
want=$(cat "$dir/notify.want") || exit 1
said=$("$ctsync" "$want" 2>&1)
rc=$?
if [ "$rc" -eq 0 ]; then
	say notice "$1 $2 is $3: $want: $said"
else
	say err "$1 $2 is $3: $want failed (exit code $rc): $said"
fi
exit "$rc"
