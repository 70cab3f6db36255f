#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Track script for keepalived: exit 0 if this node could be the active one now
# without losing a connection that it could have had.
#
# Use it with a negative weight, never with weight 0: see keepalived.conf.

exec "${CTSYNC:-ctsync}" ready >/dev/null 2>&1
