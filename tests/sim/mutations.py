# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of mutations, for tests/sim/mutate.

One entry is a rule that is taken out of the sources: its name, the simulation
that has to notice, what it breaks, and the edits (file, old text, new text).  A
file is named without its folder.  The old text has to be found exactly once.  An
entry without edits waits for its text.  A second line is a rule that the
simulation does not miss while the others hold; the unit tests do.  Those of clients break only what
clients are promised: of that the simulation has a bound, which fewer seeds show.
"""

FEED = "feed.c"
STREAM = "feed_stream.c"
RECV = "recv.c"
LOCAL = "local.c"
DUMP = "local_dump.c"
NODE = "node.c"
SESS = "session_signal.c"
TAKE = "takeover.c"
ENTRY = "takeover_entry.c"
PURGE = "purge.c"
OWNERSHIP = "ownership.c"
CLAIM = "ownership_claim.c"
LIVES = "ownership_life.c"
WINDOWS = "windows.c"
WRITE = "takeover_write.c"
FRESH = "freshness.c"
CHAOS = "sim_chaos.c"
SIM = "sim_node.c"


class M:
    def __init__(self, name, sim, breaks, edits, second=False, clients=False, seed=None):
        self.name = name
        self.sim = sim
        self.breaks = breaks
        self.edits = edits
        self.second = second
        self.clients = clients
        self.seed = seed        # one that noticed once: it is tried first


MUTATIONS = [
    M("tomb_forget", "feed", "a reborn flow forgets that it was told to somebody", [
        (FEED, "\t\ttomb_remove(f, h);\n\t\tf->live_flows++;",
         "\t\ttomb_remove(f, h);\n\t\te->flags &= (uint8_t)~FE_EMITTED;\n\t\tf->live_flows++;")]),
    M("acked_not_sent", "feed", "no tombstone for what was sent but not acknowledged", [
        (FEED, "\tif (!(e->flags & FE_EMITTED)) {\n\t\tf->stats.unborn++;",
         "\tif (!(e->flags & FE_EMITTED) || e->version > feed_acked(f, 0)) {\n"
         "\t\tf->stats.unborn++;")]),
    M("sweep_at_J", "feed", "the horizon is where the backfill ends", [
        (STREAM, "\twire_put_horizon(w, f->version);\n\ts->owes_horizon = false;",
         "\twire_put_horizon(w, s->j.v[0] > s->j.v[1] ? s->j.v[0] : s->j.v[1]);\n"
         "\ts->owes_horizon = false;"),
        (STREAM, "\twire_put_horizon(w, f->version);\n\tjoin.stream = m->id;",
         "\twire_put_horizon(w, s->j.v[0] > s->j.v[1] ? s->j.v[0] : s->j.v[1]);\n"
         "\tjoin.stream = m->id;")]),
    M("always_move", "node", "a change that nobody was told of takes a new version", [
        (FEED, "\tif (e->lane == lane && e->version > f->hi.v[lane]) {",
         "\tif (e->lane == lane && e->version > f->version) {")]),
    M("floor_resume_only", "feed", "the floor is tested when a peer resumes, not when it rises", [
        (STREAM, "if (f->peers[p].cur != NULL && below_floor(f, f->peers[p].cur))",
         "if (f->stats.frames == 0 && f->peers[p].cur != NULL && below_floor(f, f->peers[p].cur))")]),
    M("rebuild", "feed", "a frame that is sent again leaves out what has changed since", [
        (STREAM, "\tfr->sent_us = now_us;\n\tfr->again = true;",
         """\tstruct rbuf	 in, b;
	uint8_t		*at, kind;
	uint32_t	 h;
	size_t		 klen, len;

	rbuf_init(&in, frame_bytes(f, s, seq), fr->len);
	rbuf_skip(&in, WIRE_SEQ_BYTES);
	while (at = (uint8_t *)in.p, wire_next(&in, &kind, &b))
		if (kind == WIRE_FLOW) {
			klen = flow_key_len(b.p + 4, b.len - 4);
			h = feed_find(f, ftab_hash(f->tab, b.p + 4, klen), b.p + 4, klen);
			if (h == FTAB_NIL || (ftab_body(f->tab, h, &len), len != b.len - 4) ||
			    memcmp(ftab_body(f->tab, h, &len), b.p + 4, len) != 0)
				*at = 0x7e;	/* of no meaning */
		}
	fr->sent_us = now_us;
	fr->again = true;""")]),
    M("dig_table", "feed", "the digest is that of the table, not of what was told", [
        (STREAM, "\t\twire_put_digest(&w, &f->digest);",
         """\t\tstruct wire_digest	 dt = { 0, 0 };
		uint32_t		 dh = FTAB_NIL;
		const uint8_t		*db;
		size_t			 dl;

		while ((dh = feed_next(f, dh)) != FTAB_NIL) {
			db = ftab_body(f->tab, dh, &dl);
			dt.sum += siphash13(&f->conf.digest_key, db, dl);
			dt.flows++;
		}
		wire_put_digest(&w, &dt);""")]),
    M("ooo", "feed", "frames are applied as they come", [
        (RECV, "\tif (seq > r->next) {\n\t\thold(r, seq, p, len);",
         "\tif (seq > r->next) {\n\t\tstruct parsed	 early;\n\n"
         "\t\tif (recv_parse(r, &early, p, len))\n\t\t\tapply_records(r, &early);\n"
         "\t\thold(r, seq, p, len);")]),
    M("no_session", "feed", "frames of a stream that has ended are applied", [
        (RECV, "\tif (!r->asking || seq != 1 || stream <= r->top) {\n\t\tr->stats.other_stream++;",
         "\tif (!r->asking || seq != 1 || stream <= r->top) {\n"
         "\t\tif (recv_parse(r, &f, p, len))\n\t\t\tapply_records(r, &f);\n"
         "\t\tr->stats.other_stream++;")]),
    M("skip_held", "feed", "an entry is passed over and counts as told", [
        (STREAM, "\t\tif (!feed_put_record(f, w, h))\n\t\t\treturn false;\n\t\tf->stats.records++;",
         "\t\tif (e->version % 16 != 0 && !feed_put_record(f, w, h))\n\t\t\treturn false;\n"
         "\t\tf->stats.records++;")]),
    M("no_lane1", "feed", "lane 1 need not have reached the horizon", [
        (RECV, "if (r->horizon0 == 0 && r->a.v[1] + 1 >= r->horizon)", "if (r->horizon0 == 0)")]),
    M("early_horizon", "feed", "a horizon is told before the first dump is done", [
        (STREAM, "if (s != f->main || s->backfilling || !s->owes_horizon || !f->complete)",
         "if (s != f->main || s->backfilling || !s->owes_horizon)"),
        (STREAM, "\tif ((s->owes_horizon && f->complete) || fmend_due(f))",
         "\tif (s->owes_horizon || fmend_due(f))")]),
    M("early_join", "feed", "a peer joins before the first dump is done", [
        (STREAM, "\tif (!f->complete)\n\t\treturn;\n\twire_put_horizon", "\twire_put_horizon")]),
    M("join_no_horizon", "feed", "a peer joins without a horizon", [
        (STREAM, "\twire_put_horizon(w, f->version);\n\tjoin.stream = m->id;",
         "\tjoin.stream = m->id;")]),
    M("floor_ignored", "feed", "a peer resumes below the floor", [
        (STREAM, "if ((full ? q->t.v[l] : q->a.v[l]) < f->floor.v[l] ||", "if (")]),
    M("full_forgotten", "feed", "a full synchronisation that was cut short resumes as none", [
        (RECV, "q->flags = r->full_sync ? WIRE_REQUEST_FULL : 0;", "q->flags = 0;")]),
    M("window_open", "feed", "more is sent than the ring keeps", [
        (STREAM, "\treturn s->seq - lowest_ack(s) >= s->window;",
         "\treturn s->seq - lowest_ack(s) >= 4 * s->window;")]),
    M("cursor_stays", "feed", "the cursor stays on an entry that moves", [
        (STREAM, "\t\tif (s->live_next[lane] == h)\n\t\t\ts->live_next[lane] = next;\n", "")]),
    M("old_acks", "node", "acknowledgements for an earlier run of the daemon count", [
        (SESS, "if (g->dst.id != n->id || g->dst.epoch != n->conf.epoch) {",
         "if (g->dst.id != n->id) {")]),
    M("no_doubt", "node", "a claim ignores that events were lost", [
        (RECV, "\tr->equal = r->doubt == 0;", "\tr->equal = true;"),
        (RECV, "if (f->echoed == 0 || !f->has_doubt || r->doubt != 0)",
         "if (f->echoed == 0 || !f->has_doubt)"),
        (NODE, "\td.kernel_us = older(n, d.kernel_us, local_lacking_us(n->local));\n", "")]),
    M("time_of_arrival", "node", "equality is claimed as of the arrival, not of the stamp that came back", [
        (RECV, "\t\tr->verified_us = f->echoed - age;", "\t\tr->verified_us = now_us - age;")]),
    M("no_kernel_age", "node", "a claim ignores how old the knowledge of the kernel is", [
        (RECV, "\tage = f->doubt.kernel_us > f->doubt.pending_us ? f->doubt.kernel_us : "
               "f->doubt.pending_us;", "\tage = f->doubt.pending_us;")]),
    M("no_pending_age", "node", "a claim ignores what has not been sent", [
        (RECV, "\tage = f->doubt.kernel_us > f->doubt.pending_us ? f->doubt.kernel_us : "
               "f->doubt.pending_us;", "\tage = f->doubt.kernel_us;")], second=True),
    M("late_ignored", "node", "what a dump has found counts as told at once", [
        (NODE, "\td.kernel_us = older(n, d.kernel_us, still_late(n));\n", "")], seed=450),
    M("dump_removes", "node", "what a dump does not show is gone, nobody asks", [
        (DUMP, "\t\tif (!add_question(l, j, h))\n\t\t\tbreak;", "\t\tlocal_remove(l, h, true, 1);")], seed=118),
    M("update_whole", "node", "an update is taken for all that there is to know of a flow", [
        (LOCAL, "return has_common(f) && (ev == LOCAL_NEW || f->expect);", "return has_common(f);")]),
    M("no_delta", "node", "what events told of a flow while it was asked for is forgotten", [
        (DUMP, "\tif (delta != NULL && same)\n\t\tflow_merge(&nf, delta);\n", "")]),
    M("masters_late", "node", "a related flow does not wait for its master", [
        (ENTRY, "return pass == PASS_LEFT || p < PASS_RELATED || local_has_master(n->local, f);",
         "return true;"),
        (ENTRY, "\tif (pass == PASSES)\n\t\treturn p < PASS_RELATED || local_has_master(n->local, f);\n", ""),
        (ENTRY, "\tif (p > pass)\n\t\treturn false;\n", "")]),
    M("expects_stay", "node", "expectations stay when their master is left out", [
        (LOCAL, "\t\tl->audit |= h != FTAB_NIL && f->helper[0] != '\\0' && !f->expect;\n", "")], second=True),
    M("stale_answer", "node", "an answer overrides an event that came since the question", [
        (DUMP, "\tif ((local_meta(l, h)->flags & LF_ASKED) != j->tag) {", "\tif (gone) {")]),
    M("no_lease", "node", "flows of a node that has rebooted are swept", [
        (SESS, "\t\trecv_lease(n->recv[s->peer], n->now_us + LEASE_US);", "")]),
    M("adopt_blind", "node", "what the kernel made of a takeover's write is not asked for", [
        (WRITE, "\t\tt->unsure |= j->items[i].there;\n", "")]),
    M("takeover_claims", "node", "a node that takes over claims to know its kernel", [
        (FRESH, "\td.kernel_us = older(n, d.kernel_us, takeover_writing_us(n));\n", "")]),
    M("half_takeover", "node", "a takeover leaves out what is not assured", [
        (TAKE, "\tif (!(f->status & FLOW_S_ASSURED))\n\t\treturn 2;",
         "\tif (!(f->status & FLOW_S_ASSURED))\n\t\treturn 9;")]),
    M("delete_claims", "node", "what a standby lets go of counts as known at once", [
        (FRESH, "\td.kernel_us = older(n, d.kernel_us, f->delete_us);\n", "")], seed=122),
    # Rules of ownership.
    M("no_retake", "node", "an active node does not look again at a peer that stopped being active, or came back", [
        (OWNERSHIP, "\tif (ownership_active(n) && (stopped || rose))\n\t\ttakeover_pass(n, peer);",
         "\tif (ownership_active(n) && rose && !stopped)\n\t\ttakeover_pass(n, peer);"),
        (OWNERSHIP, "\tp->heard.held = p->heard.waiting = false;\n\tif (ownership_active(n))\n\t\ttakeover_pass(n, peer);",
         "\tp->heard.held = p->heard.waiting = false;"),
        (OWNERSHIP, "\tif (!ownership_active(n))\n\t\treturn;\n\ttakeover_pass(n, peer);\n\twindows_loosen_all(n);",
         ""),
        (OWNERSHIP, "\t\tp->generation = generations;\n\t\tif (ownership_active(n))\n\t\t\ttakeover_pass(n, i);",
         "\t\tp->generation = generations;")], second=True),
    M("stale_scripts", "node", "a script that comes late brings what it was started with", [
        (CHAOS, "v->script_us[i] = v->w->now_us + 1 + late_us;",
         "v->script_us[i] = (v->w->now_us + 2 + late_us) / 2 * 2 + (role == NODE_ACTIVE);"),
        (CHAOS, "\t\t\tv->script_us[k] = 0;\n\t\t\tif (v->node != NULL)\n\t\t\t\tcommand(v, v->wish,",
         "\t\t\tenum node_role\t role = v->script_us[k] % 2 ? NODE_ACTIVE : NODE_STANDBY;\n\n"
         "\t\t\tv->script_us[k] = 0;\n\t\t\tif (v->node != NULL)\n\t\t\t\tcommand(v, role,")]),
    M("no_want", "node", "a daemon that starts does not know what was asked for while it was down", [
        (SIM, "v->wished ? v->wish : v->role;", "v->role;")], clients=True),
    M("no_follow", "node", "an active node does not follow what its peers tell", [
        (NODE, "\ttakeover_told(r->node, r->peer, h);",
         "\t(void)r;\n\t(void)h;")], seed=1039),
    M("not_of_actives", "node", "an active node follows only peers that are not active", [
        (NODE, "\ttakeover_told(r->node, r->peer, h);",
         "\tif (!ownership_peer_active(r->node, r->peer))\n\t\ttakeover_told(r->node, r->peer, h);")], clients=True),
    M("sweep_is_end", "node", "what a sweep removes counts as ended", [
        (RECV, "\t\trecv_uncount(r, r->sweep_h);\n\t\tftab_remove(r->tab, r->sweep_h);",
         "\t\tif (r->conf.deleted != NULL)\n\t\t\tr->conf.deleted(r->conf.ctx, r->sweep_h, false);\n"
         "\t\trecv_uncount(r, r->sweep_h);\n\t\tftab_remove(r->tab, r->sweep_h);")], clients=True),
    M("purge_by_role", "node", "a standby removes whatever the active node lacks, at once", [
        (CLAIM, "\tif (feed_version_of(n->feed, h) > c->pos.v[feed_lane_of(n->feed, h)])\n\t\treturn false;",
         "\tif (c->nfilter != UINT16_MAX)\n\t\treturn true;"),
        (CLAIM, "o->peers[i].active && o->peers[i].heard.held &&",
         "o->peers[i].active &&"),
        (PURGE, "(uint32_t)(n->conf.purge_us / 1000000)) != LOCAL_USE_NONE)",
         "(uint32_t)(n->conf.purge_us / 1000000)) == (enum local_use)99)")], clients=True),
    M("never_purge", "node", "a standby removes nothing", [
        (PURGE, "\treturn !takeover_running(n) && local_complete",
         "\treturn n == NULL && local_complete")], clients=True),
    M("gone_beats_own", "node", "what a peer says has ended is removed though packets pass here", [
        (PURGE, "if (removed || flow_key_expects(body) || (own != FTAB_NIL && !local_unused(n->local, own)))",
         "if (removed || flow_key_expects(body))"),
        (PURGE, "\t\t    local_still_unused(n->local, got->bytes + it->off, it->len, &got->flows[i]) &&\n",
         "")], second=True),
    M("stale_windows", "node", "a pass leaves the windows of what is there already", [
        (ENTRY, "return full && theirs->proto == IPPROTO_TCP",
         "return false && full && theirs->proto == IPPROTO_TCP")], second=True),
    M("own_windows", "node", "a takeover leaves the windows of the kernel's own entries", [
        (TAKE, "\t\townership_activate(n);\n\t\twindows_loosen_all(n);",
         "\t\townership_activate(n);")], clients=True),
    M("strict_beside", "node", "windows become strict while another node is active", [
        (WINDOWS, "n->conf.liberal && ownership_actives(n) == 1 && ownership_active(n)",
         "n->conf.liberal && ownership_active(n)"),
        (WINDOWS, "ownership_active(n) && ownership_actives(n) > 1 &&",
         "ownership_active(n) && ownership_actives(n) > 99 &&"),
        (OWNERSHIP, "\t\tif (o->role == NODE_ACTIVE)\n\t\t\twindows_loosen_all(n);\n",
         "")], seed=1480),
    M("one_pass", "node", "a pass is not repeated for what is missing", [
        (TAKE, "\tt->retry_us[peer] = n->now_us + *wait;",
         "\tt->retry_us[peer] = 0;")], clients=True),
    M("copies_lapse", "node", "what lapses here has ended, whoever else holds it", [
        (LIVES, "how == LOCAL_END_COMMANDED ? active : how == LOCAL_END_USED && closing(f);",
         "how != LOCAL_END_USED ? active : how == LOCAL_END_USED || closing(f);")], clients=True),
    M("role_filters", "node", "a takeover of an active node takes nothing", [
        (TAKE, "\tt->command = true;\n\tbegin_walk(n, all_peers(n), all_peers(n));",
         "\tt->command = true;\n\tbegin_walk(n, what == NODE_TAKEOVER && ownership_took_over_us(n) != n->now_us ? 0 : all_peers(n), all_peers(n));")], second=True),
    M("unused_end_counts", "node", "the lapse of a copy that nobody used is an end", [
        (LIVES, "how == LOCAL_END_COMMANDED ? active : how == LOCAL_END_USED && closing(f);",
         "how != LOCAL_END_USED ? active : closing(f);")], second=True),
    M("term_unseen", "node", "a peer whose term has risen is not looked at again", [
        (OWNERSHIP, "\tif (ownership_active(n) && (stopped || rose))",
         "\tif (ownership_active(n) && stopped)")], second=True),
    M("purge_blind", "node", "a standby does not ask whether packets pass", [
        (PURGE, "(uint32_t)(n->conf.purge_us / 1000000)) != LOCAL_USE_NONE)",
         "(uint32_t)(n->conf.purge_us / 1000000)) == LOCAL_USE_UNKNOWN)")], second=True),
    M("claim_failed", "node", "a claim does not name what the kernel refused", [
        (CLAIM, "\t(void)name(&p->next_claim, hash);\n\treturn name(&p->claim, hash);",
         "\t(void)p;\n\t(void)hash;\n\treturn false;")], second=True),
]
