# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a firewall pair with keepalived: see keepalived.py.

An event is called, or begun and ended by hand so that something else can happen between: begin()
does it, end() puts it right.  `who` is the node that it happens to: "fw1", "fw2", or "active" and
"standby" as they are when it begins.  `hold` is how long it lasts, in seconds.
"""

import signal
import time

from lab import wait_for


# How late a change may be at the peer.
LAG_S = 0.3


class Event:
    """Begins, lasts, ends."""

    hold = 0
    who = "active"

    def __init__(self, lab, who=None, hold=None):
        self.lab = lab
        self.who = who or self.who
        self.hold = self.hold if hold is None else hold
        self.node = None

    def __call__(self):
        self.begin()
        if self.hold:
            self.lab.hold(self.hold)
        self.end()

    def __str__(self):
        hold = f" for {self.hold:g} s" if self.hold else ""
        return f"{self.text()}{hold}"

    def text(self):
        name = self.node.name if self.node else self.who
        return f"{' '.join((self.__doc__ or '').split()).rstrip('.')} ({name})"

    def pick(self):
        if self.who in ("fw1", "fw2"):
            self.node = getattr(self.lab, self.who)
        else:
            active = self.lab.master()
            if active is None:
                active = self.lab.wait_master()
            self.node = active if self.who == "active" else active.peer
        return self.node

    def begin(self):
        raise NotImplementedError

    def end(self):
        pass

    def back(self):
        """keepalived again, as it was."""
        self.node.start_keepalived()
        self.node.wait_vrrp("BACKUP")


class Switch(Event):
    """keepalived stopped."""

    def begin(self):
        self.pick().stop_keepalived()
        self.lab.wait_master(self.node.peer)

    def end(self):
        self.back()


class KeepalivedKilled(Event):
    """keepalived killed, the addresses stay."""

    hold = 3

    def begin(self):
        self.pick().kill_keepalived()
        self.node.peer.wait_vrrp("MASTER")

    def end(self):
        self.back()


class Failback(Event):
    """keepalived restarted with a higher priority, so that it comes back."""

    def __init__(self, lab, who=None, hold=None, times=1):
        super().__init__(lab, who, hold)
        self.times = times

    def begin(self):
        self.pick()
        for _ in range(self.times):
            self.node.stop_keepalived()
            self.lab.wait_role(self.lab.wait_master(self.node.peer), "active")
            self.node.start_keepalived(state="MASTER", priority=150)
            self.lab.wait_role(self.lab.wait_master(self.node), "active")

    def end(self):
        self.node.write_keepalived()
        self.node.keepalived.send_signal(signal.SIGHUP)


class Death(Event):
    """daemon killed, then all cables out and every process killed; a boot."""

    def __init__(self, lab, who=None, hold=None, keepalived_first=False, **start):
        super().__init__(lab, who, hold)
        self.keepalived_first = keepalived_first
        self.start = start

    def begin(self):
        self.pick()
        blind = time.monotonic() - LAG_S
        if self.node.daemon:
            self.node.stop_ctsyncd(signal.SIGKILL)
        self.node.kill()
        self.lab.unseen.append((blind, time.monotonic()))
        self.node.peer.wait_vrrp("MASTER")

    def end(self):
        self.node.boot()
        if self.keepalived_first:
            self.node.start_keepalived(**self.start)
            self.node.wait_vrrp("MASTER" if self.start else "BACKUP")
            self.node.start_ctsyncd()
        else:
            self.node.start_ctsyncd()
            self.node.start_keepalived(**self.start)
            wait_for(self.node.vrrp, 20, f"{self.node.name}: keepalived to run")
        if self.start:      # a priority that it does not keep
            self.lab.wait_master(self.node)
            self.node.write_keepalived()
            self.node.keepalived.send_signal(signal.SIGHUP)


class Frozen(Event):
    """keepalived and ctsyncd stopped (SIGSTOP) and continued."""

    hold = 8
    machine = False

    def begin(self):
        self.pick().freeze(self.machine)
        self.node.peer.wait_vrrp("MASTER")

    def end(self):
        self.node.thaw()


class FrozenMachine(Frozen):
    """as a virtual machine that is paused: nothing is forwarded either."""

    machine = True


class Silent(Event):
    """cables up, and nothing goes through them."""

    hold = 15
    sync = False

    def begin(self):
        self.pick()
        if self.sync:
            self.lab.cut_sync()
        self.lab.silence(self.node)
        self.node.peer.wait_vrrp("MASTER")
        self.node.wait_vrrp("MASTER")

    def end(self):
        self.lab.loud(self.node)
        if self.sync:
            self.lab.heal_sync()


class SilentWithSync(Silent):
    """cables up, nothing goes through them nor through the link between the nodes."""

    sync = True


class Unplugged(Event):
    """cables out."""

    hold = 5
    sync = False

    def begin(self):
        self.pick()
        if self.sync:
            self.lab.cut_sync()
        self.node.unplug()
        self.node.peer.wait_vrrp("MASTER")

    def end(self):
        self.node.plug()
        if self.sync:
            self.lab.heal_sync()
        wait_for(lambda: "FAULT" not in self.node.vrrp().values(), 20, f"{self.node.name} to recover")


class UnpluggedWithSync(Unplugged):
    """cables out, that between the nodes cut too."""

    sync = True


class Split(Event):
    """VRRP cut between the nodes."""

    hold = 15
    sync = False

    def begin(self):
        self.who = "active"
        self.pick()
        if self.sync:
            self.lab.cut_sync()
        self.lab.split_vrrp()
        self.node.peer.wait_vrrp("MASTER")

    def end(self):
        self.lab.heal_vrrp()
        if self.sync:
            self.lab.heal_sync()

    def text(self):
        return self.__doc__.rstrip(".")


class SplitWithSync(Split):
    """VRRP and synchronisation cut between the nodes."""

    sync = True


class DaemonRestarted(Event):
    """daemon stopped and started."""

    def begin(self):
        self.pick().stop_ctsyncd()

    def end(self):
        self.node.start_ctsyncd()


class DaemonKilled(DaemonRestarted):
    """daemon killed and started."""

    def begin(self):
        self.pick().stop_ctsyncd(signal.SIGKILL)


class SwitchWhileRestarting(Switch):
    """keepalived stopped while the daemon of the standby is not there."""

    def begin(self):
        heir = self.pick().peer
        told = len(heir.notified("carried-out"))
        heir.stop_ctsyncd()
        self.node.stop_keepalived()
        heir.wait_vrrp("MASTER")
        if self.lab.mode == "scripts":
            wait_for(lambda: len(heir.notified("carried-out")) > told, 20, "the notify script to end")
        heir.start_ctsyncd()
        self.lab.wait_master(heir)


class DeathAfterRestart(Death):
    """standby's daemon restarted and equal again, then the active node dies."""

    def begin(self):
        heir = self.pick().peer
        heir.restart_ctsyncd()
        heir.wait_ready()
        super().begin()


class SwitchScriptsLate(Switch):
    """keepalived stopped, notify scripts wait for 15 s."""

    late = 15

    def begin(self):
        for fw in (self.lab.fw1, self.lab.fw2):
            fw.delay_notify(self.late)
        super().begin()

    def end(self):
        super().end()
        for fw in (self.lab.fw1, self.lab.fw2):
            fw.delay_notify(0)
