//! Applying what is committed, and telling the shards: one Publication a batch.

use super::batch::Waiter;
use super::{Effect, Note, Now, Sequencer};
use crate::apply::{stamp, Batch, BatchHeader, Txn, TxnBody};
use crate::error::Code;
use crate::handoff::{Addressee, AnswerKind, Committed, Concerns, Publication};
use crate::ids::{Owner, ServerId, Xid, Zxid};
use crate::mutant::{self, Mutant};
use crate::tree::{Answer, Attached, Change};
use std::sync::Arc;

impl Sequencer {
    pub(super) fn apply_committed(&mut self, _now: Now) {
        while let Some((entry, payload)) = self.committed.front() {
            if payload.is_none() && entry.has_batch() || self.must_stop {
                break;
            }
            let (entry, payload) = self.committed.pop_front().expect("it was looked at just now");
            self.reads_asked = self.reads_asked.saturating_sub(1);
            if let Some(payload) = payload.filter(|payload| !payload.is_empty()) {
                self.apply_batch(&payload);
            }
            if let Some(change) = self.state.take_conf_change() {
                self.consensus.apply_conf(&change);
                self.members_changed();
            }
            if self.state.rules > self.options.rules {
                self.must_stop = true;
                self.effects.push_back(Effect::Note(Note::UnknownRules { version: self.state.rules }));
            }
            self.applied = entry.index;
            self.applied_term = entry.term;
            self.consensus.applied(entry.index);
            self.note_chain();
        }
        self.answer_syncs();
    }

    fn apply_batch(&mut self, payload: &[u8]) {
        let header = Batch::decode(payload).map(|batch| batch.header);
        let mine = header.is_ok_and(|header| {
            header.server == self.options.server && header.incarnation == self.options.incarnation
        });
        if let Some(header) = header.ok().filter(|_| mine) {
            self.forget_own(header.sequence);
        }
        let own = mutant::is(Mutant::OwnOptions).then(|| self.with_own_options(payload));
        let payload = own.as_deref().unwrap_or(payload);
        let mut committed: Vec<Committed> = Vec::new();
        let now = self.session_now();
        let (state, effects) = (&mut self.state, &mut self.effects);
        let me = (self.options.server, self.options.incarnation);
        let (locals, returns) = (&mut self.locals, &mut self.returns);
        let is_awaited = mine || self.leading;
        let mono = self.last_seen.unwrap_or_default();
        let mut left = Vec::new();
        let applied = state.apply_batch(payload, |txn, mut outcome| {
            // Told once: by the server whose client it was, and by no later run of it that reads its log.
            if mine {
                effects
                    .extend(outcome.over_quota.into_iter().map(|over| Effect::Note(Note::OverQuota(over))));
                match txn.body {
                    TxnBody::LocalRequest { .. } => locals.applied(txn.session),
                    TxnBody::CreateSession { .. } => {
                        let new = Owner { server: me.0, incarnation: me.1, shard: txn.shard, conn: txn.conn };
                        let old =
                            locals.entered(txn.session, new).filter(|_| !mutant::is(Mutant::EnteredSpeaksOn));
                        left.extend(old.map(|old| (committed.len(), txn.session, old, new)));
                    }
                    TxnBody::Attach { timeout_ms, password } => {
                        let new = Owner { server: me.0, incarnation: me.1, shard: txn.shard, conn: txn.conn };
                        // In its place: the next transaction may be its way into the state.
                        if let Some((change, answer)) =
                            locals.attach(txn.session, password, new, timeout_ms, now)
                        {
                            (outcome.changes, outcome.answer) = (std::iter::once(change).collect(), answer);
                        }
                    }
                    _ => {}
                }
            }
            if is_awaited && matches!(txn.body, TxnBody::Request { .. }) {
                returns.answered(mono, txn.session);
            }
            committed.push(Committed {
                zxid: outcome.zxid,
                changes: outcome.changes,
                to: match (outcome.late, &outcome.answer) {
                    (Some((owner, xid)), _) => late_addressee(me, owner, xid),
                    (None, Answer::Later) => None,
                    (None, _) => addressee(txn).filter(|_| mine),
                },
                answer: outcome.answer,
            });
        });
        let refusal = state.take_refusal().filter(|_| mine);
        effects.extend(refusal.map(|refusal| Effect::Note(Note::ReconfigRefused(refusal))));
        // The log's checksum has held and Raft has committed it: only another release writes what we can not read.
        let fresh = applied.expect("a committed batch decodes: was this log written by a newer release?");
        if !fresh {
            return;
        }
        self.since_snapshot.0 += committed.len() as u64;
        self.since_snapshot.1 += payload.len() as u64;
        self.follow_sessions(&committed);
        // Its owner in the state is an earlier connection: this one is told to come again.
        for (at, session, old, new) in left {
            let moved = Attached { session, old: Some(old), new };
            committed[at].changes.push(Change::Attached(Box::new(moved)));
        }
        self.publish(committed, payload.len());
    }

    /// What a planted bug applies.
    #[cold]
    fn with_own_options(&self, payload: &[u8]) -> Vec<u8> {
        let header = Batch::decode(payload).map(|batch| batch.header);
        let header = header.expect("a committed batch decodes");
        let mut own = payload.to_vec();
        stamp(&mut own, &BatchHeader { options: self.options.txn, ..header });
        own
    }

    /// Sessions that came, were attached or went, as the expiry must know them.
    fn follow_sessions(&mut self, committed: &[Committed]) {
        let now = self.session_now();
        for one in committed {
            for change in &one.changes {
                match change {
                    Change::Attached(attached) if self.leading || mutant::is(Mutant::ExpiredByFollower) => {
                        // A local one is not in the state, and its server's to expire.
                        let Some(session) = self.state.sessions.get(attached.session) else { continue };
                        let timeout_ms = u64::try_from(session.timeout_ms).unwrap_or(0);
                        self.expiry.track(attached.session, timeout_ms, now);
                    }
                    Change::SessionClosed(closed) => self.expiry.forget(closed.0),
                    _ => {}
                }
            }
        }
    }

    /// A sync is answered once all that was committed when it was asked is applied.
    fn answer_syncs(&mut self) {
        let done = self.consensus.take_reads(self.applied);
        if done.is_empty() {
            return;
        }
        let zxid = self.state.last_zxid();
        let mut answers = Vec::new();
        for waiter in done {
            match waiter {
                Waiter::Serving { asked } => self.start_following(asked),
                Waiter::Sync { shard, conn, xid } => answers.push(Committed {
                    zxid,
                    changes: Default::default(),
                    to: Some(Addressee { shard, conn, xid, kind: AnswerKind::Sync }),
                    answer: Answer::Code(Code::Ok),
                }),
            }
        }
        if !answers.is_empty() {
            self.publish(answers, 0);
        }
    }

    pub(super) fn publish(&mut self, committed: Vec<Committed>, bytes: usize) {
        self.publications += 1;
        let last_zxid: Zxid = self.state.last_zxid();
        let mut concerns = Concerns::default();
        for one in &committed {
            one.to.iter().for_each(|to| concerns.add(to.shard));
            if one
                .changes
                .iter()
                .any(|change| matches!(change, Change::Attached(_) | Change::SessionClosed(_)))
            {
                concerns = Concerns::ALL;
            }
        }
        let publication = Publication {
            number: self.publications,
            committed,
            sessions: self.sessions(),
            last_zxid,
            concerns,
            bytes,
        };
        self.effects.push_back(Effect::Publish(Arc::new(publication)));
    }
}

/// The connection that waits for a transaction; the server's own have none.
fn addressee(txn: &Txn<'_>) -> Option<Addressee> {
    let kind = match txn.body {
        TxnBody::Request { .. } | TxnBody::LocalRequest { .. } => AnswerKind::Write,
        TxnBody::CreateSession { .. } | TxnBody::Attach { .. } => AnswerKind::Handshake,
        TxnBody::CloseSession | TxnBody::Expire { .. } | TxnBody::Reap { .. } | TxnBody::Member { .. } => {
            return None
        }
    };
    Some(Addressee { shard: txn.shard, conn: txn.conn, xid: txn.xid, kind })
}

/// The connection whose reconfig has come to its end, if it is one of this run of this server.
fn late_addressee(me: (ServerId, u64), owner: Owner, xid: Xid) -> Option<Addressee> {
    let is_here = (owner.server, owner.incarnation) == me;
    is_here.then_some(Addressee { shard: owner.shard, conn: owner.conn, xid, kind: AnswerKind::Write })
}
