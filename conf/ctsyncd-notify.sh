#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Notify script for keepalived: TYPE NAME STATE [PRIORITY].
#
# Tells ctsync what is asked for, and the log what came of it.  ctsync keeps
# what was asked for last, by the start of the script that asks: keepalived does
# not wait for one script before it starts the next, and one that is held up
# does not undo what was asked for after it was started, also if it is called by
# a script of your own.  If ctsyncd does not run, it does what was asked for last
# when it starts.
#
# Run it as the user ctsync: script_user ctsync ctsync.  Not needed with
# takeover.follow_addresses.

set -u

ctsync=${CTSYNC:-ctsync}
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

said=$("$ctsync" "$want" --asked-by $$ 2>&1)
rc=$?
case $rc in
0)
	say notice "$1 $2 is $3: $want: $said"
	exit 0
	;;
1)	hint="see the log of ctsyncd" ;;
3)	hint="is ctsyncd running, and does keepalived run its scripts as ctsync (script_user ctsync ctsync)?" ;;
127)	hint="is ctsync installed?  CTSYNC can name it" ;;
*)	hint="try it by hand" ;;
esac
say err "$1 $2 is $3: $want failed (exit code $rc): $said: $hint"
exit "$rc"
