# SPDX-License-Identifier: GPL-3.0-or-later
"""Where both daemons spend their CPU time: samples of perf(1), by purpose.

A sample is a chain of functions, innermost first.  The first of them that has
a purpose decides; what the compiler has inlined is resolved by addr2line(1).
The clock of the CPU needs no counters of the processor, so that this works in
virtual machines, and it sees the kernel's part as well.
"""

import os
import shutil
import signal
import subprocess
import time

from benchlab import BenchError, die_with_parent

RATE_HZ = 1999
STACK_BYTES = 16384     # copied with each sample, for its callers

DIGESTS, ACKS, VERSIONS, OTHER = "digests", "acks", "versions", "other"

# Functions of src/core and what they are for, whatever they call.
PURPOSE = {
    DIGESTS: """
        feed_mark_emitted recv_count recv_uncount compare
        wire_put_digest wire_get_digest wire_put_doubt wire_get_doubt
        wire_put_echoed wire_get_echoed on_trailer
        note_time note_lag note_offset hist_add
        fmend_account fmend_leave fmend_run fmend_due fmend_put fmend_put_snap
        mend_account mend_differed mend_equal mend_snap mend_sums
        mend_begin_end mend_retold mend_run scrub scrub_one""",
    ACKS: """
        sess_signal send_signal handle_signal parse_signal
        recv_acks recv_ack_due_us find_gaps feed_ack acknowledge fill_gaps
        resend resend_overdue lowest_ack window_full laggards drop_laggards
        adjust_window note_transfer""",
    VERSIONS: """
        changed list_append list_remove mark_time feed_touch feed_release
        feed_cursors_step feed_cursors_tail first_above feed_tombs_needed
        tomb_append tomb_remove tomb_give_up feed_collect_tombs
        feed_check_floor put_positions wire_put_pos wire_put_back
        wire_get_pos wire_get_back apply_positions advance_t pos_reached
        pending_since maybe_horizon maybe_join""",
    # Every table needs these, whoever calls them.
    OTHER: "ftab_hash ftab_set ftab_insert ftab_remove",
}
# Only their own work: what they call is for something else.
ITSELF = {"take_live": VERSIONS}
# Small ones that are inlined everywhere, and have no purpose of their own.
HELPERS = {"fent", "carray_at", "ftab_meta", "ftab_body"}
# Of a key for ftab_hash, else of a body for a digest.
HASH = "siphash13"
# What comes to the active is acknowledgements and a few idle frames.
TO_ACTIVE = {"peer_readable", "listener_readable"}

PURPOSE_OF = {name: purpose for purpose, names in PURPOSE.items()
              for name in names.split()}


def missing():
    """Why nothing can be sampled here, or None."""
    for tool in ("perf", "addr2line"):
        if shutil.which(tool) is None:
            return tool + " not found"
    return None


class Sampler:
    """Samples of some processes, from with to the end of its block."""

    def __init__(self, rundir, pids):
        self.file = os.path.join(rundir, "perf.data")
        self.pids = pids
        self.proc = None

    def __enter__(self):
        if os.path.exists(self.file):
            os.unlink(self.file)
        self.proc = subprocess.Popen(
            ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(RATE_HZ),
             "--call-graph", "dwarf,%d" % STACK_BYTES, "-o", self.file,
             "-p", ",".join(map(str, self.pids))],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        deadline = time.monotonic() + 20
        while not os.path.exists(self.file):
            if self.proc.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise BenchError("perf record does not work here")
            time.sleep(0.05)
        return self

    def __exit__(self, *_error):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGINT)
        try:
            self.proc.wait(timeout=60)
        finally:
            if self.proc.poll() is None:
                self.proc.kill()
                self.proc.wait()

    def chains(self):
        """(pid, [address in the program, or None elsewhere]) of each sample."""
        out = subprocess.run(
            ["perf", "script", "-i", self.file, "--no-inline",
             "-F", "pid,ip,dso"], check=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        pid, chain = None, []
        for line in out.splitlines() + [""]:
            words = line.split()
            if not words:
                if pid is not None:
                    yield pid, chain
                pid, chain = None, []
            elif pid is None:
                pid = int(words[0])
            else:
                ours = words[-1].endswith("/ctsyncd)")
                chain.append(int(words[0], 16) if ours else None)


def names_of(program, addresses):
    """Address -> functions there, innermost inlined one first."""
    order = sorted(addresses)
    out = subprocess.run(
        ["addr2line", "-e", program, "-a", "-f", "-i"], check=True, text=True,
        input="".join("%#x\n" % a for a in order),
        stdout=subprocess.PIPE).stdout
    names, current = {}, None
    lines = iter(out.splitlines())
    for line in lines:
        if line.startswith("0x"):
            current = names.setdefault(int(line, 16), [])
        else:
            current.append(line.partition(".")[0])  # x.part.0, x.isra.0
            next(lines)                             # file and line
    return names


def purpose_of(functions, is_active):
    """What a chain of functions, innermost first, is for."""
    inner, hashes = True, False
    for name in functions:
        if name in PURPOSE_OF:
            return PURPOSE_OF[name]
        if hashes:
            return DIGESTS
        hashes = name == HASH
        if inner and name in ITSELF:
            return ITSELF[name]
        if is_active and name in TO_ACTIVE:
            return ACKS
        inner = inner and name in HELPERS
    return OTHER


def count(sampler, program, active_pid):
    """{pid: {purpose: samples}}."""
    chains = list(sampler.chains())
    names = names_of(program, {a for _, c in chains for a in c if a is not None})
    table = {}
    for pid, chain in chains:
        functions = [f for a in chain if a is not None for f in names[a]]
        # what a library or the kernel does is no function's own work
        if chain and chain[0] is None and functions[:1] and \
                functions[0] in ITSELF:
            functions = functions[1:]
        what = purpose_of(functions, pid == active_pid)
        row = table.setdefault(pid, {})
        row[what] = row.get(what, 0) + 1
    return table
