# SPDX-License-Identifier: GPL-3.0-or-later
"""What synchronises the two firewalls of a lab: ctsyncd, conntrackd for comparison, or nothing.

A backend has: name, start(lab) before the traffic, wait_ready(lab) when the traffic runs, and
takeover(fw) on the survivor, before the addresses move; it returns a line of text for the operator.
"""

import re

from lab import wait_for


class Nothing:
    """Two firewalls that know nothing of each other."""

    name = "nothing"

    def start(self, lab):
        pass

    def wait_ready(self, lab):
        pass

    def takeover(self, _fw):
        return "no takeover: there is nothing to take over"


class Ctsyncd:
    """ctsyncd on both, fw1 active."""

    name = "ctsyncd"

    def __init__(self, inject="commit"):
        self.inject = inject

    def start(self, lab):
        for fw in (lab.fw1, lab.fw2):
            fw.start_ctsyncd(inject=self.inject)
        lab.fw1.ctsync("takeover")

    def wait_ready(self, lab):
        lab.fw2.wait_ready()

    def takeover(self, fw):
        return " ".join(fw.ctsync("takeover").stdout.split())


CONNTRACKD_CONF = """\
Sync {{
	Mode FTFW {{
		ResendQueueSize 262144
		ACKWindowSize 300
		DisableExternalCache Off
	}}
	UDP {{
		IPv4_address {mine}
		IPv4_Destination_Address {theirs}
		Port 3780
		Interface sync0
		SndSocketBuffer 8388608
		RcvSocketBuffer 8388608
		Checksum on
	}}
}}
General {{
	HashSize 65536
	HashLimit 524288
	Syslog off
	LogFile {directory}/conntrackd.log
	LockFile {directory}/conntrackd.lock
	UNIX {{
		Path {directory}/conntrackd.sock
	}}
	NetlinkBufferSize 8388608
	NetlinkBufferSizeMaxGrowth 67108864
	Filter From Userspace {{
		Address Ignore {{
			IPv4_address 127.0.0.1
			IPv6_address ::1
			IPv4_address {mine}
			IPv4_address {theirs}
		}}
	}}
}}
"""


class Conntrackd:
    """Debian's conntrackd as its manual recommends it: FTFW over the same link, commit on takeover."""

    name = "conntrackd"

    def start(self, lab):
        for fw in (lab.fw1, lab.fw2):
            config = fw.dir / "conntrackd.conf"
            config.write_text(CONNTRACKD_CONF.format(mine=fw.sync_address, directory=fw.dir,
                                                     theirs=fw.peer.sync_address))
            fw.spawn("conntrackd", "-C", config, log=f"{fw.name}-conntrackd.log")
            wait_for((fw.dir / "conntrackd.sock").exists, 10, f"{fw.name}: conntrackd")

    @staticmethod
    def _control(fw, option, check=True):
        return fw.run("conntrackd", "-C", fw.dir / "conntrackd.conf", option, check=check).stdout

    def _count(self, fw, cache):
        text = self._control(fw, "-s", check=False)
        match = re.search(rf"cache {cache}:\s+current active connections:\s+(\d+)", text)
        return int(match.group(1)) if match else 0

    def wait_ready(self, lab):
        def equal():
            # A few pings of the lab itself are older than the daemon, and only in its internal cache.
            count = self._count(lab.fw1, "internal") - 4
            return 0 < count <= self._count(lab.fw2, "external")
        wait_for(equal, 30, "conntrackd on fw2 to hold what fw1 holds", 0.1)

    def takeover(self, fw):
        count = self._count(fw, "external")
        self._control(fw, "-c")
        return f"conntrackd -c: {count} entries in the external cache"
