//! Bad peers (P01 to P24): a real server 1 of three, whose other two the test plays over the peer port, in words that it
//! has learnt from the comments alone. Nothing that a stranger or a lying member says may end the server, move its term,
//! fill its memory or its log, or be noticed by a client.
//!
//! P01 to P24 are rows of the reliability list; which file holds which stands in the names.

mod client;
mod follower;
mod members;
mod played;
mod server;
mod settings;
mod stage;
mod strangers;
mod tls;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One at a time: elections are a matter of tenths of a second, and a loaded host would hold them up by itself.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

macro_rules! tests {
    ($($room:ident::$name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                let _turn = turn();
                $room::$name();
            }
        )*
    };
}

tests! {
    strangers::p05_to_p07_and_p09_are_refused_with_a_line,
    strangers::a_stranger_that_says_something_new_each_time_fills_no_log,
    strangers::p20_a_thousand_half_open_connections_hold_up_nobody_for_long,
    strangers::a_new_server_joins_no_cluster_that_its_voters_did_not_form,
    members::p08_p09_and_p13_end_the_connection,
    members::p10_to_p12_p22_and_p23_are_dropped_before_raft_sees_them,
    members::p15_a_flood_holds_up_nobody,
    members::p16_old_words_are_passed_over,
    members::p17_forged_writes_change_nothing,
    members::p19_the_newer_of_two_connections_stays,
    members::a_seat_that_no_leader_gives_is_not_taken,
    members::p24_one_false_digest_stops_nobody,
    members::a_server_whose_state_is_another_one_than_that_of_most_ends,
    follower::p10_to_p13_and_p22_from_its_own_leader_end_no_follower,
    follower::a_member_that_does_not_lead_is_no_leader_of_a_follower,
    follower::p14_false_snapshots_are_not_taken,
    follower::p23_votes_of_an_observer_elect_nobody,
    tls::p01_to_p04_and_p21_do_not_get_past_tls,
    settings::two_servers_with_one_id_are_both_told,
    settings::a_directory_of_another_ensemble_is_refused_and_a_server_alone_begins_one,
    settings::a_wiped_server_comes_back_in_a_seat_of_its_own,
    settings::server_lists_that_differ_are_told_on_both_sides,
    settings::an_unreachable_name_is_told_once_and_tried_on,
}
