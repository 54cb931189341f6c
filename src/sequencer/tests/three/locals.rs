//! Local sessions: attached, on their way into the state, and given up.

use super::*;

/// Three with local sessions, who leads, and one of its.
fn with_local_session() -> (Three, u8, Granted) {
    let (mut three, leader) = Three::led();
    for node in &mut three.nodes {
        (node.options.local_sessions, node.options.local_sessions_upgrade) = (true, true);
    }
    three.up(leader, SessionId::NONE, 0, Wish::CreateSession { timeout_ms: 40_000 }, Vec::new());
    let Some((_, Answer::Session(granted))) = three.answers.pop() else { panic!("no session") };
    assert!(granted.is_local);
    (three, leader, *granted)
}

/// What several connections of one session wish for, in one piece.
struct Said {
    session: SessionId,
    up: Upward,
}

impl Said {
    fn by(session: SessionId) -> Said {
        let up = Upward { shard: ShardId(0), arena: Vec::new(), proposals: Vec::new(), heard: None };
        Said { session, up }
    }

    fn put(&mut self, bytes: &[u8]) -> std::ops::Range<u32> {
        let start = self.up.arena.len() as u32;
        self.up.arena.extend_from_slice(bytes);
        start..self.up.arena.len() as u32
    }

    fn create(mut self, conn: u64, path: &str, flags: i32) -> Said {
        let (_, mut bytes) = create_bytes(path);
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&flags.to_be_bytes());
        let request = self.put(&bytes);
        let wish = Wish::Write { op: OpCode::Create.as_i32(), identities: 0..0, request };
        self.up.proposals.push(Proposal { session: self.session, conn: ConnId(conn), xid: Xid(1), wish });
        self
    }

    fn attach(mut self, conn: u64, password: &[u8]) -> Said {
        let password = self.put(password);
        let wish = Wish::Attach { timeout_ms: 40_000, password };
        self.up.proposals.push(Proposal { session: self.session, conn: ConnId(conn), xid: Xid(0), wish });
        self
    }

    fn to(self, three: &mut Three, at: u8) {
        three.nodes[usize::from(at) - 1].handle(three.now, Input::Up(self.up));
    }
}

/// The attach was answered behind all of its batch, as one of a session that nobody knows; and what the old connection wished for
/// behind it was done, and seen by a client that had asked before whether it was.
#[test]
fn a_local_session_is_attached_in_its_place_and_its_old_connection_asks_for_nothing_behind_it() {
    for in_one_piece in [true, false] {
        for flags in [0, 1] {
            let (mut three, leader, granted) = with_local_session();
            let said = Said::by(granted.id).create(5, "/before", 0).attach(6, granted.password.as_slice());
            match in_one_piece {
                true => said.create(5, "/behind", flags).to(&mut three, leader),
                false => {
                    said.to(&mut three, leader);
                    three.turn(usize::from(leader) - 1);
                    Said::by(granted.id).create(5, "/behind", flags).to(&mut three, leader);
                }
            }
            three.settle();
            let [(_, Answer::Path(_)), (_, Answer::Session(again))] = &three.answers[..] else {
                panic!("{:?}", three.answers)
            };
            assert_eq!((again.id, again.is_local), (granted.id, true));
            Said::by(granted.id).create(6, "/new", flags).to(&mut three, leader);
            three.settle();
            let node = &three.nodes[usize::from(leader) - 1];
            let is_there = ["/before", "/behind", "/new"].map(|path| node.state().table.get(path).is_some());
            assert_eq!(is_there, [true, false, true]);
            let known = (node.state().sessions.get(granted.id).is_some(), node.local_sessions());
            assert_eq!(known, if flags == 1 { (true, 0) } else { (false, 1) });
            // All of its wishes are done: nothing keeps it from being attached at once.
            three.answers.clear();
            Said::by(granted.id).attach(7, granted.password.as_slice()).to(&mut three, leader);
            let records = three.records[usize::from(leader) - 1];
            three.settle();
            assert!(matches!(&three.answers[..], [(_, Answer::Session(_))]));
            assert_eq!(three.records[usize::from(leader) - 1] > records, flags == 1);
        }
    }
}

/// Behind the entry that lies in front of it in the log it is an attach of a session of the state.
#[test]
fn a_local_session_enters_the_state_and_is_attached_in_one_batch() {
    let (mut three, leader, granted) = with_local_session();
    let said = Said::by(granted.id).create(5, "/ephemeral", 1).attach(6, granted.password.as_slice());
    said.to(&mut three, leader);
    three.settle();
    let again = three.answers.iter().filter(|(_, answer)| matches!(answer, Answer::Session(_)));
    assert!(again.count() > 0, "{:?}", three.answers);
    let node = &three.nodes[usize::from(leader) - 1];
    let session = node.state().sessions.get(granted.id).expect("it is in the state");
    assert_eq!((session.owner.conn, node.local_sessions()), (ConnId(6), 0));
}

/// An attach that its follower had given up when it lost the leader was done all the same, behind the client's next one, and took
/// the session from the connection that this was.
#[test]
fn an_attach_that_was_given_up_and_is_done_after_all_is_behind_no_later_one() {
    let (mut three, leader, _) = with_local_session();
    let follower = leader % 3 + 1;
    let at = usize::from(follower) - 1;
    three.up(follower, SessionId::NONE, 0, Wish::CreateSession { timeout_ms: 40_000 }, Vec::new());
    let Some((_, Answer::Session(granted))) = three.answers.pop() else { panic!("no session") };
    let password = granted.password.as_slice();
    Said::by(granted.id).create(5, "/before", 0).to(&mut three, follower);
    three.turn(at);
    let write = std::mem::take(&mut three.wires);
    three.now.mono = three.now.mono.plus(Millis(2));
    Said::by(granted.id).attach(6, password).to(&mut three, follower);
    three.turn(at);
    let attach = std::mem::replace(&mut three.wires, write);
    three.settle();
    assert!(matches!(three.answers[..], [(_, Answer::Path(_))]), "{:?}", three.answers);
    // The leader has it, and what it answers is lost.
    assert!(!attach.is_empty());
    for (from, _, message) in attach {
        three.nodes[usize::from(leader) - 1].handle(three.now, Input::Peer { from, message });
    }
    three.turn(usize::from(leader) - 1);
    three.wires.retain(|(_, to, _)| to.0 != follower);
    three.link(follower, leader, false);
    three.link(leader, follower, false);
    three.turn(at);
    let moved = three.answers.iter().filter(|(_, answer)| matches!(answer, Answer::Moved)).count();
    assert!(moved > 0, "its wishes are void");
    three.answers.clear();
    Said::by(granted.id).attach(7, password).to(&mut three, follower);
    three.settle();
    let early = &three.answers;
    assert!(early.is_empty(), "it is not granted in front of what may be done yet: {early:?}");
    three.link(follower, leader, true);
    three.link(leader, follower, true);
    for _ in 0..100 {
        three.tick(Some(granted.id));
        three.settle();
    }
    // It was void as well: its client comes again, and the session is its.
    Said::by(granted.id).attach(8, password).to(&mut three, follower);
    three.settle();
    Said::by(granted.id).create(8, "/new", 0).to(&mut three, follower);
    three.settle();
    let is_there = ["/before", "/new"].map(|path| three.nodes[at].state().table.get(path).is_some());
    assert_eq!(is_there, [true, true], "{:?}", three.answers);
}

/// A local session's way into the state was given up by its server, and came about after all while that server served without
/// a leader and had taken up the session's next connection at once. That one spoke on for a session that another one has in
/// the state (the simulator, seed 2605810610).
#[test]
fn a_session_that_enters_behind_its_servers_back_leaves_the_connection_that_it_was_taken_up_with() {
    let (mut three, leader, _) = with_local_session();
    for node in &mut three.nodes {
        (node.options.read_only_mode, node.options.leaderless_ms) = (true, 1_000);
    }
    let follower = leader % 3 + 1;
    let at = usize::from(follower) - 1;
    three.up(follower, SessionId::NONE, 0, Wish::CreateSession { timeout_ms: 40_000 }, Vec::new());
    let Some((_, Answer::Session(granted))) = three.answers.pop() else { panic!("no session") };
    Said::by(granted.id).create(5, "/ephemeral", 1).to(&mut three, follower);
    three.turn(at);
    three.deliver_to(leader);
    // The others do it, and nobody tells the follower.
    three.cut = follower;
    three.settle();
    let links = |three: &mut Three, is_up: bool| {
        for other in (1..=3).filter(|other| *other != follower) {
            three.link(follower, other, is_up);
            three.link(other, follower, is_up);
        }
    };
    links(&mut three, false);
    for _ in 0..100 {
        three.tick(Some(granted.id));
    }
    assert_eq!(three.nodes[at].serving(), Serving::ReadOnly);
    // Who serves on, though read-only, does not say before that it turns all away.
    let said = |note: &Note| three.notes.iter().any(|(of, one)| *of == follower && one == note);
    assert!(said(&Note::ServesReadOnly) && !said(&Note::StoppedServing), "{:?}", three.notes);
    three.answers.clear();
    three.replaced.clear();
    Said::by(granted.id).attach(6, granted.password.as_slice()).to(&mut three, follower);
    three.settle();
    assert!(matches!(three.answers[..], [(_, Answer::Session(_))]), "at once: {:?}", three.answers);
    let conns = |three: &Three| three.replaced.iter().map(|(id, old)| (*id, old.conn)).collect::<Vec<_>>();
    three.replaced.clear();
    three.cut = 0;
    links(&mut three, true);
    for _ in 0..100 {
        three.tick(Some(granted.id));
    }
    let node = &three.nodes[at];
    let session = node.state().sessions.get(granted.id).expect("it entered");
    assert_eq!((session.owner.conn, node.local_sessions(), node.serving()), (ConnId(5), 0, Serving::Yes));
    assert_eq!(conns(&three), [(follower, ConnId(6))], "it is told to come again");
}

/// Ids count up: who asked for the next one before it was anybody's got it, with its password, once somebody was given it.
#[test]
fn a_local_session_is_nobodys_who_does_not_have_its_password() {
    let (mut three, leader, granted) = with_local_session();
    let next = SessionId(granted.id.0 + 1);
    Said::by(next).attach(6, &[0; 16]).to(&mut three, leader);
    three.up(leader, SessionId::NONE, 0, Wish::CreateSession { timeout_ms: 40_000 }, Vec::new());
    let (mut given, mut refused) = (0, 0);
    for (_, answer) in &three.answers {
        match answer {
            Answer::Session(granted) if granted.id == next => given += 1,
            Answer::SessionRefused => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((given, refused), (1, 1));
}
