# SPDX-License-Identifier: GPL-3.0-or-later
"""More than two nodes: namespaces on one bridge, each a peer of all others.

No client, no server and no virtual addresses: flows come from ctlab-ctgen.
"""

from lab import Firewall, Lab


class Member(Firewall):
    """A node of a cluster; what concerns a pair (peer, cut, boot) is not for it."""

    def write_config(self, extra="", **_config):
        peers = ", ".join(f'{{ name = "{m.name}"; address = "{m.sync_address}"; }}'
                          for m in self.lab.members if m is not self)
        links = (f'{{ name = "ha0"; transport = "udp"; interface = "sync0"; '
                 f'local = "{self.sync_address}"; peers = ( {peers} ); }}')
        return super().write_config(links=links, extra=extra)

    @property
    def peer(self):
        return next(m for m in self.lab.members if m is not self)

    def others(self):
        return [m for m in self.lab.members if m is not self]


class Cluster(Lab):
    """`with Cluster(bin_dir, 8) as cluster:` cluster.members[0..7], named n1 to n8; no daemon runs."""

    def __init__(self, bin_dir, size):
        super().__init__(bin_dir)
        self.members = [Member(self, f"n{number}", number) for number in range(1, size + 1)]
        self.nodes = [self.bridge, *self.members]

    def up(self):
        for node in self.nodes:
            node.create()
        self.bridge.ip("link add sync type bridge mcast_snooping 0", "link set sync up")
        for member in self.members:
            port = f"sync-{member.name}"
            self.bridge.ip(f"link add {port} type veth peer name sync0 netns {member.ns}",
                           f"link set {port} master sync", f"link set {port} up")
            member.ip("link set sync0 up", f"addr add {member.sync_address}/24 dev sync0")
            member.configure()
