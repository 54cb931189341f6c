//! Disks that are slow or stand, servers that stood still, and how old what is served may be.

use super::*;

/// In its first turn it still took itself for the leader, and what it had for the newest (the simulator, seed 17).
#[test]
fn a_leader_that_stood_still_serves_nobody_until_a_majority_has_answered() {
    let (mut three, leader) = Three::led();
    three.nodes.iter_mut().for_each(|node| node.options.leaderless_ms = 2_000);
    (0..200).for_each(|_| three.tick(None));
    let at = usize::from(leader) - 1;
    for (stood_ms, is_serving) in [(1_400, true), (2_100, false)] {
        three.now.mono = three.now.mono.plus(Millis(stood_ms));
        three.nodes[at].turn(three.now);
        assert_eq!(
            (three.nodes[at].is_leading(), three.nodes[at].is_serving()),
            (true, is_serving),
            "{stood_ms}"
        );
        (0..4).for_each(|_| three.tick(None));
        assert_eq!((three.leader(), three.nodes[at].is_serving()), (Some(leader), true));
    }
}

/// The answer lay there while the server fetched and replayed for minutes: it began to serve a state of minutes ago.
#[test]
fn a_follower_that_caught_up_for_too_long_asks_anew_before_it_serves() {
    let (mut three, leader) = Three::led();
    let at = usize::from(leader % 3);
    three.nodes[at].options.leaderless_ms = 1_000;
    (0..50).for_each(|_| three.tick(None));
    for is_late in [true, false] {
        three.tick(None);
        let (now, node) = (three.now.mono, &mut three.nodes[at]);
        assert!(node.is_serving());
        node.serving = Serving::No;
        let asked = node.peers.fresh.ask(false, 1_000).expect("it waits for no answer");
        node.peers.fresh.observe(now.plus(Millis(750 + u64::from(is_late))), true, None);
        node.start_following(asked);
        assert_eq!(node.is_serving(), !is_late);
        three.now.mono = now.plus(Millis(1_000));
        three.tick(None);
        assert!(three.nodes[at].is_serving(), "it has asked once more");
    }
}

/// Nothing of what the ensemble did was applied there, and its clients read on: the leader's heartbeats came all the same (an
/// audit). ZooKeeper's leader drops a follower that acknowledges nothing for syncLimit, and that one its clients.
#[test]
fn a_follower_whose_disk_stands_serves_no_state_that_is_older_than_it_may_be() {
    let (mut three, leader) = Three::led();
    let follower = leader % 3 + 1;
    three.nodes.iter_mut().for_each(|node| node.options.leaderless_ms = 1_000);
    let session = three.session(leader);
    // An idle ensemble is never old.
    (0..100).for_each(|_| three.tick(Some(session)));
    let serving = |three: &Three| three.nodes.iter().map(Sequencer::is_serving).collect::<Vec<_>>();
    assert_eq!(serving(&three), [true; 3]);
    for is_full in [true, false, true] {
        three.stands = if is_full { follower } else { 0 };
        three.notes.clear();
        for turn in 0..60 {
            let (wish, arena) = create_bytes("/a");
            three.up(leader, session, turn + 1, wish, arena);
            three.tick(Some(session));
            if turn == 20 && is_full {
                assert_eq!(serving(&three), [true; 3], "half a second is not too much");
            }
        }
        for (at, is_serving) in serving(&three).into_iter().enumerate() {
            assert_eq!(is_serving, !is_full || at + 1 != usize::from(follower), "server {}", at + 1);
        }
        let fell = three.notes.iter().filter(|(_, note)| matches!(note, Note::FellBehind { .. }));
        assert_eq!(
            fell.map(|(at, _)| *at).collect::<Vec<_>>(),
            if is_full { vec![follower] } else { vec![] }
        );
    }
}

/// Where a vote took longer to be on a disk than an election, every election was in vain; where the answers to heartbeats waited
/// for disks, the leader stepped down; and a leader whose disk stood handed over to one whose disk stood as long (an audit).
#[test]
fn an_ensemble_with_slow_disks_elects_a_leader_and_keeps_it() {
    for slow_ms in [300, 450, 700, 1_200, 2_000, 3_900] {
        let mut three = Three::new();
        three.slow_ms = slow_ms;
        let mut ticks = 0;
        while three.leader().is_none() {
            three.tick(None);
            ticks += 1;
            assert!(ticks < 40 * 60, "{slow_ms} ms: nobody leads after a minute");
        }
        let leader = three.leader().expect("it was looked at just now");
        let wish = Wish::CreateSession { timeout_ms: 40_000 };
        three.up(leader, SessionId::NONE, 0, wish, Vec::new());
        for _ in 0..2_400 {
            if three.answers.is_empty() {
                three.tick(None);
            }
        }
        let Some((_, Answer::Session(granted))) = three.answers.pop() else { panic!("no session") };
        three.notes.clear();
        for xid in 1..1_200 {
            let (wish, arena) = create_bytes("/a");
            three.up(leader, granted.id, xid, wish, arena);
            three.tick(Some(granted.id));
        }
        let done = three.answers.len();
        if slow_ms > 3_000 {
            // As slow as this the lead may be handed over once.
            assert!(done > 100, "{slow_ms} ms: {done} of 1,199 writes were done in half a minute");
            continue;
        }
        assert!(done > 600, "{slow_ms} ms: {done} of 1,199 writes were done in half a minute");
        three.notes.retain(|(_, note)| !matches!(note, Note::Stalled { .. }));
        assert_eq!((three.leader(), &three.notes[..]), (Some(leader), &[][..]), "{slow_ms} ms");
    }
}

/// Its answers take two or three writes: those that it waits for are under way while it serves nobody, too. It was turned away and
/// taken back for as long as clients wrote (a review).
#[test]
fn servers_with_slow_disks_do_not_turn_their_clients_away_again_and_again() {
    for slow_ms in [400, 1_000, 1_100] {
        let mut three = Three::new();
        three.slow_ms = slow_ms;
        three.nodes.iter_mut().for_each(|node| node.options.leaderless_ms = 4_000);
        while three.leader().is_none() {
            three.tick(None);
        }
        let leader = three.leader().expect("it was looked at just now");
        three.answers.clear();
        let wish = Wish::CreateSession { timeout_ms: 40_000 };
        three.up(leader, SessionId::NONE, 0, wish, Vec::new());
        while three.answers.is_empty() {
            three.tick(None);
        }
        let Some((_, Answer::Session(granted))) = three.answers.pop() else { panic!("no session") };
        for xid in 1..2_400 {
            let (wish, arena) = create_bytes("/a");
            three.up(leader, granted.id, xid, wish, arena);
            three.tick(Some(granted.id));
        }
        let fell = three.notes.iter().filter(|(_, note)| matches!(note, Note::FellBehind { .. }));
        let serve = three.nodes.iter().filter(|node| node.is_serving()).count();
        // Where three writes and the time till the next question are longer than it may be behind, a follower serves nobody.
        let (most_falls, serving) = if slow_ms > 1_000 { (2, 1) } else { (0, 3) };
        assert!(
            fell.count() <= most_falls && serve >= serving,
            "{slow_ms} ms: {serve} serve, {:?}",
            three.notes
        );
    }
}

/// Its first entry was on the others' disks at once, and on its own when another one had led for a minute: it served what
/// it had as if that were the newest (a review).
#[test]
fn a_leader_that_stood_still_before_its_first_entry_serves_nobody() {
    let mut three = Three::new();
    three.stands_once_elected = true;
    while three.stands == 0 {
        three.tick(None);
    }
    three.tick(None);
    let (id, at) = (three.stands, usize::from(three.stands) - 1);
    assert!(three.nodes[at].consensus.is_leading() && !three.nodes[at].is_serving());
    (three.cut, three.stands, three.stands_once_elected) = (id, 0, false);
    three.nodes[at].options.leaderless_ms = 10_000;
    three.now.mono = three.now.mono.plus(Millis(60_000));
    for _ in 0..3 {
        three.turn(at);
    }
    assert!(three.nodes[at].leading, "its first entry is applied");
    assert!(!three.nodes[at].is_serving());
    three.cut = 0;
    (0..100).for_each(|_| three.tick(None));
    assert!(three.nodes.iter().all(Sequencer::is_serving));
}

/// The first stand of a leader's disk hands the lead over at once; one that has just come stays, unless it stands for longer than
/// a follower may be behind.
#[test]
fn a_leader_whose_disk_stands_hands_over_but_not_a_lead_that_has_just_come() {
    for patience_ms in [100_000, 3_000] {
        let (mut three, first) = Three::led();
        three.nodes.iter_mut().for_each(|node| node.options.leaderless_ms = patience_ms);
        let session = three.session(first);
        let mut xid = 0;
        let mut pass = |three: &mut Three, ms: u64| {
            for _ in 0..ms / 25 {
                xid += 1;
                let (wish, arena) = create_bytes("/a");
                three.up(first, session, xid, wish, arena);
                three.tick(Some(session));
            }
            three.leader()
        };
        assert_eq!(pass(&mut three, 11_000), Some(first));
        three.stands = first;
        let second = pass(&mut three, 1_000);
        assert!(second.is_some_and(|second| second != first), "{patience_ms}: {second:?}");
        three.stands = second.expect("it was looked at just now");
        assert_eq!(pass(&mut three, 2_500), second, "{patience_ms}");
        if patience_ms > 10_000 {
            assert_eq!(pass(&mut three, 4_000), second);
            pass(&mut three, 4_000);
        } else {
            pass(&mut three, 1_500);
        }
        assert!(three.leader().is_some_and(|third| Some(third) != second), "{patience_ms}");
    }
}

/// Where a write takes longer than a follower may be behind, every disk seemed to stand, and the lead went round until the simulator
/// gave up (seed 318568261).
#[test]
fn the_lead_does_not_go_round_where_a_write_takes_longer_than_sync_limit() {
    for slow_ms in [1_000, 1_200] {
        let mut three = Three::new();
        three.slow_ms = slow_ms;
        three.nodes.iter_mut().for_each(|node| node.options.leaderless_ms = 500);
        for _ in 0..40 * 60 {
            if three.leader().is_none() {
                three.tick(None);
            }
        }
        let at = three.leader().expect("somebody leads within a minute");
        for xid in 0..2_400 {
            // Somebody's whom it does not know: a batch like any other.
            let (wish, arena) = create_bytes("/a");
            three.up(at, SessionId::NONE, xid, wish, arena);
            three.tick(None);
        }
        let reigns = three.notes.iter().filter(|(_, note)| matches!(note, Note::BecameLeader { .. }));
        let reigns = reigns.count();
        assert!((1..=2).contains(&reigns), "{slow_ms} ms: {reigns} reigns in a minute");
    }
}

/// Each try counted, and so often the bound was doubled: a leader whose disk hung for good kept the lead for minutes (a review).
#[test]
fn a_leader_whose_disk_hangs_hands_over_soon_however_often_it_did_before() {
    let (mut three, leader) = Three::led();
    let at = usize::from(leader) - 1;
    three.nodes.iter_mut().for_each(|node| node.options.leaderless_ms = 500);
    let session = three.session(leader);
    three.nodes[at].handed_over = (5, three.now.mono, Term(0));
    three.stands = leader;
    let mut waited_ms = 0;
    while three.leader() == Some(leader) && waited_ms < 60_000 {
        let (wish, arena) = create_bytes("/a");
        three.up(leader, session, 1, wish, arena);
        three.tick(Some(session));
        waited_ms += 25;
    }
    assert!((1_000..=1_500).contains(&waited_ms), "{waited_ms} ms");
    assert_eq!(three.nodes[at].handed_over.0, 6, "this reign counts once");
}

/// It asked how fresh it was for as long as its disk stood, and the questions waited for the disk: hours of them went out at once, and
/// the others cut it off (a review).
#[test]
fn a_follower_whose_disk_stands_heaps_up_no_questions() {
    let (mut three, leader) = Three::led();
    three.nodes.iter_mut().for_each(|node| node.options.leaderless_ms = 500);
    let session = three.session(leader);
    let follower = leader % 3 + 1;
    three.stands = follower;
    let (wish, arena) = create_bytes("/a");
    three.up(leader, session, 1, wish, arena);
    for _ in 0..40 * 300 {
        three.tick(Some(session));
    }
    three.stands = 0;
    while three.turn(usize::from(follower) - 1) {}
    let words = three.wires.iter().filter(|(from, ..)| from.0 == follower).count();
    assert!((1..400).contains(&words), "{words} words");
    three.settle();
    for _ in 0..40 {
        three.tick(Some(session));
    }
    assert_eq!(three.nodes[usize::from(follower) - 1].serving(), Serving::Yes);
}

/// It led on and heaped up what nobody could have: whoever tells it of clients counted as there.
#[test]
fn a_leader_whose_majority_has_disks_that_stand_does_not_lead_for_ever() {
    let (mut three, leader) = Three::led();
    three.nodes.iter_mut().for_each(|node| node.options.leaderless_ms = 2_000);
    let session = three.session(leader);
    let (gone, stands) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    (three.cut, three.stands) = (gone, stands);
    for other in [leader, stands] {
        three.link(other, gone, false);
        three.link(gone, other, false);
    }
    let mut led_ms = 0;
    for xid in 1..200 {
        let (wish, arena) = create_bytes("/a");
        three.up(leader, session, xid, wish, arena);
        three.tick(Some(session));
        led_ms += if three.nodes[usize::from(leader) - 1].is_leading() { 25 } else { 0 };
    }
    assert!((2_000..=3_500).contains(&led_ms), "{led_ms} ms");
}
