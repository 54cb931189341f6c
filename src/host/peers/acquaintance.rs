//! Who of the other servers may speak with this one, and how listed servers with empty disks become one cluster.
//!
//! Each data directory has a random id of its own, its *birth*. Servers whose directories are new tell each other theirs;
//! who knows those of all listed voters forms the cluster out of them, and its id is a digest of them: whoever forms it,
//! it is the same one. Who belongs to a cluster says so with the births that it was formed of, and a new directory joins it.
//! A wiped disk has another birth: the leader gives it a seat of its own, and it is never the voter that it was; nor can it,
//! with other wiped ones, form a second history while a voter with the first one is missing.

use super::hello::{Hello, Listed, Purpose, Verdict};
use crate::apply::RULES;
use crate::ids::ServerId;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A cluster, and the directories that it was formed of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Formed {
    pub cluster: u128,
    /// Of the voters, ascending.
    pub births: Vec<(ServerId, u128)>,
}

/// An only voter waits so many times as long for the first word of its observers: 14 s.
const OBSERVERS_FACTOR: u32 = 12;

/// What this server knows of itself and the others. Shared by all who greet.
pub struct Acquaintance {
    me: ServerId,
    birth: u128,
    incarnation: u64,
    listed: Vec<Listed>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    formed: Option<Formed>,
    /// Births of new directories.
    heard: BTreeMap<ServerId, u128>,
    /// Since then those of all listed voters are known.
    complete_since: Option<Instant>,
    /// The directory that each member has its seat for, as far as this server has heard.
    seated: BTreeMap<ServerId, u128>,
    /// The directories that there is a connection with.
    connected: BTreeMap<ServerId, u128>,
}

impl State {
    /// Notes the moment at which all listed voters are known.
    fn see_complete(&mut self, listed: &[Listed]) {
        let mut voters = listed.iter().filter(|(_, is_observer)| !is_observer);
        if voters.all(|(server, _)| self.heard.contains_key(server)) {
            self.complete_since.get_or_insert_with(Instant::now);
        }
    }
}

impl Acquaintance {
    pub fn new(
        me: ServerId,
        birth: u128,
        incarnation: u64,
        listed: Vec<Listed>,
        formed: Option<Formed>,
    ) -> Acquaintance {
        let heard = BTreeMap::from([(me, birth)]);
        let mut state = State { formed, heard, ..State::default() };
        // Who is the only voter waits for nobody.
        state.see_complete(&listed);
        Acquaintance { me, birth, incarnation, listed, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_observer(&self, server: ServerId) -> bool {
        self.listed.contains(&(server, true))
    }

    /// The directories that the members have their seats for.
    pub fn set_seated(&self, seated: BTreeMap<ServerId, u128>) {
        self.lock().seated = seated;
    }

    /// There is a connection with a server's directory, or none any more.
    pub fn set_connected(&self, server: ServerId, birth: Option<u128>) {
        let mut state = self.lock();
        match birth {
            Some(birth) => state.connected.insert(server, birth),
            None => state.connected.remove(&server),
        };
    }

    pub fn is_connected(&self, server: ServerId) -> bool {
        self.lock().connected.contains_key(&server)
    }

    /// What this server says of itself.
    pub fn hello(&self, to: ServerId, purpose: Purpose) -> Hello {
        let state = self.lock();
        Hello {
            from: self.me,
            to,
            purpose,
            cluster: state.formed.as_ref().map_or(0, |formed| formed.cluster),
            birth: self.birth,
            incarnation: self.incarnation,
            rules: RULES,
            listed: self.listed.clone(),
            births: state.formed.as_ref().map_or_else(Vec::new, |formed| formed.births.clone()),
        }
    }

    /// Waits until the cluster is known: joined, or formed where all listed voters are new and for so long nobody has
    /// said that there is one already: members that came later are in no line of an old configuration, and dial. `None`: not
    /// in this time.
    pub fn wait_formed(&self, timeout: Duration, after: Duration) -> Option<Formed> {
        let mut state = self.lock();
        let after = if self.unheard_observers(&state).is_empty() { after } else { after * OBSERVERS_FACTOR };
        if state.formed.is_none() && state.complete_since.is_some_and(|since| since.elapsed() >= after) {
            self.form(&mut state);
        }
        let (state, _) = self
            .changed
            .wait_timeout_while(state, timeout, |state| state.formed.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.formed.clone()
    }

    /// The listed servers that have not been heard of and are waited for, while a cluster is being formed.
    pub fn missing(&self) -> Vec<ServerId> {
        let state = self.lock();
        let voters = self.listed.iter().filter(|(_, is_observer)| !is_observer);
        let voters = voters.map(|(server, _)| *server).filter(|server| !state.heard.contains_key(server));
        voters.chain(self.unheard_observers(&state)).collect()
    }

    /// The observers of an only voter. One that holds what its wiped disk held may be slower to start than a voter, and there is
    /// no other voter who knows better.
    fn unheard_observers(&self, state: &State) -> Vec<ServerId> {
        let (observers, voters): (Vec<_>, Vec<_>) =
            self.listed.iter().partition(|(_, is_observer)| *is_observer);
        let unheard =
            observers.iter().map(|(server, _)| *server).filter(|server| !state.heard.contains_key(server));
        if voters.len() == 1 {
            unheard.collect()
        } else {
            Vec::new()
        }
    }

    /// Judges a server's hello; with it a cluster may become known.
    pub fn judge(&self, hello: &Hello) -> Verdict {
        let (me, them) = (self.me.0, hello.from.0);
        let refused = |why: String| Verdict::Refused(why);
        if hello.from == self.me {
            return refused(format!("both call themselves server {me}: each needs an id (myid) of its own"));
        }
        if hello.to != self.me {
            return refused(format!(
                "server {them} looks for server {} here, but this is server {me}: check the addresses of the server \
                 lines and myid",
                hello.to.0
            ));
        }
        let mut state = self.lock();
        if let Some(ours) = &state.formed {
            return self.judge_as_member(&state, ours, hello);
        }
        if hello.cluster != 0 {
            return self.join(&mut state, hello);
        }
        // Who is a member stands in the replicated state; only those who form an ensemble must list the same servers.
        if hello.listed != self.listed {
            return refused(format!(
                "server {them} lists {}, server {me} lists {}: give all servers the same server lines",
                list(&hello.listed),
                list(&self.listed)
            ));
        }
        if !self.listed.iter().any(|(server, _)| *server == hello.from) {
            return refused(format!("server {them} is not among {}", list(&self.listed)));
        }
        state.heard.insert(hello.from, hello.birth);
        state.see_complete(&self.listed);
        Verdict::NotYet
    }

    fn judge_as_member(&self, state: &State, ours: &Formed, hello: &Hello) -> Verdict {
        let (me, them) = (self.me.0, hello.from.0);
        if hello.cluster != 0 && hello.cluster != ours.cluster {
            return Verdict::Refused(format!(
                "server {them} has the data of cluster {:032x}, server {me} of cluster {:032x}: one of them has a data \
                 directory of another ensemble",
                hello.cluster, ours.cluster
            ));
        }
        // Another directory of a server that is there all the while: one of the two is not what it says.
        let seated = state.seated.get(&hello.from);
        let is_here = |birth: &u128| state.connected.get(&hello.from) == Some(birth);
        if seated.is_some_and(|birth| *birth != hello.birth && is_here(birth)) {
            return Verdict::Refused(format!(
                "server {them} is connected with server {me} already, with another data directory: each server needs an \
                 id (myid) of its own"
            ));
        }
        // A new directory learns the cluster from our hello, and comes again.
        if hello.cluster == 0 {
            Verdict::NotYet
        } else {
            Verdict::Welcome
        }
    }

    fn join(&self, state: &mut State, hello: &Hello) -> Verdict {
        // What is written to the disk now is believed for ever: of who is looked for, or who knows this server from before.
        let knows_us = hello.births.iter().any(|(server, _)| *server == self.me);
        if !knows_us && !self.listed.iter().any(|(server, _)| *server == hello.from) {
            return Verdict::Refused(format!(
                "server {} is not among {} that new server {} looks for",
                hello.from.0,
                list(&self.listed),
                self.me.0
            ));
        }
        if !is_formed_of(hello.cluster, &hello.births) {
            return Verdict::Refused(format!(
                "server {} says that it belongs to cluster {:032x}, and names servers that did not form it",
                hello.from.0, hello.cluster
            ));
        }
        state.formed = Some(Formed { cluster: hello.cluster, births: hello.births.clone() });
        self.changed.notify_all();
        Verdict::NotYet
    }

    fn form(&self, state: &mut State) {
        let mut births = Vec::new();
        for (server, _) in self.listed.iter().filter(|(_, is_observer)| !is_observer) {
            let Some(birth) = state.heard.get(server) else { return };
            births.push((*server, *birth));
        }
        // An observer has no say: it joins what the voters have formed.
        if self.is_observer(self.me) {
            return;
        }
        state.formed = Some(Formed { cluster: cluster_of(&births), births });
        self.changed.notify_all();
    }
}

fn cluster_of(births: &[(ServerId, u128)]) -> u128 {
    let mut digest = Sha256::new();
    for (server, birth) in births {
        digest.update([server.0]);
        digest.update(birth.to_be_bytes());
    }
    let bytes: [u8; 16] = digest.finalize()[..16].try_into().expect("a digest of 32 bytes");
    u128::from_be_bytes(bytes).max(1)
}

/// Whether a cluster's id is the one of those who formed it. A server that was alone before has taken its own along.
fn is_formed_of(cluster: u128, births: &[(ServerId, u128)]) -> bool {
    match births {
        [] => false,
        [(_, birth)] if *birth == cluster => true,
        births => cluster_of(births) == cluster,
    }
}

fn list(servers: &[Listed]) -> String {
    let name = |(server, is_observer): &Listed| {
        format!("{}{}", server.0, if *is_observer { " (observer)" } else { "" })
    };
    let names: Vec<String> = servers.iter().map(name).collect();
    format!("servers {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: [Listed; 3] = [(ServerId(1), false), (ServerId(2), false), (ServerId(3), false)];

    fn fresh(me: u8, birth: u128) -> Acquaintance {
        Acquaintance::new(ServerId(me), birth, 1, THREE.to_vec(), None)
    }

    /// `a` dials `b`.
    fn meet(a: &Acquaintance, b: &Acquaintance) -> (Verdict, Verdict) {
        let (from_a, from_b) = (a.hello(b.me, Purpose::Messages), b.hello(a.me, Purpose::Messages));
        (a.judge(&from_b), b.judge(&from_a))
    }

    fn formed(one: &Acquaintance) -> Option<Formed> {
        one.wait_formed(Duration::ZERO, Duration::ZERO)
    }

    #[test]
    fn three_new_directories_form_one_cluster_in_any_order() {
        let servers = [fresh(1, 11), fresh(2, 22), fresh(3, 33)];
        assert_eq!(meet(&servers[1], &servers[0]), (Verdict::NotYet, Verdict::NotYet));
        assert!(servers.iter().all(|one| formed(one).is_none()), "a voter is missing");
        meet(&servers[2], &servers[0]);
        // The first knows all three; the others hear of it from the first, or form the same one.
        let cluster = formed(&servers[0]).expect("all are known");
        assert!(formed(&servers[1]).is_none());
        meet(&servers[1], &servers[0]);
        meet(&servers[2], &servers[1]);
        assert!(servers.iter().all(|one| formed(one).as_ref() == Some(&cluster)));
        assert_eq!(meet(&servers[2], &servers[1]), (Verdict::Welcome, Verdict::Welcome));
    }

    /// It waited for an observer's first word.
    #[test]
    fn the_only_voter_forms_alone_whoever_observes() {
        let listed = vec![(ServerId(1), false), (ServerId(2), true)];
        let voter = Acquaintance::new(ServerId(1), 11, 1, listed.clone(), None);
        let observer = Acquaintance::new(ServerId(2), 22, 1, listed, None);
        assert!(formed(&observer).is_none(), "it has heard of no voter");
        let long = Duration::from_secs(60);
        assert!(
            voter.wait_formed(Duration::ZERO, long / OBSERVERS_FACTOR).is_none(),
            "the observer may know better"
        );
        assert_eq!(voter.missing(), [ServerId(2)]);
        let cluster = formed(&voter).expect("nobody else votes");
        assert_eq!(cluster.births, [(ServerId(1), 11)]);
    }

    #[test]
    fn wiped_disks_join_the_history_that_there_is_and_form_no_second_one() {
        let servers = [fresh(1, 11), fresh(2, 22), fresh(3, 33)];
        meet(&servers[1], &servers[0]);
        meet(&servers[2], &servers[0]);
        assert!(formed(&servers[0]).is_some());
        let wiped = [fresh(2, 222), fresh(3, 333)];
        meet(&wiped[0], &wiped[1]);
        assert!(wiped.iter().all(|one| formed(one).is_none()), "the first voter has not answered");
        for one in &wiped {
            assert_eq!(meet(one, &servers[0]), (Verdict::NotYet, Verdict::NotYet));
            assert_eq!(formed(one), formed(&servers[0]), "it joins what there is");
            assert_eq!(meet(one, &servers[0]), (Verdict::Welcome, Verdict::Welcome));
        }
    }

    #[test]
    fn strangers_are_told_why() {
        let one = fresh(1, 11);
        let judge = |change: fn(&mut Hello)| {
            let mut hello = fresh(2, 22).hello(ServerId(1), Purpose::Messages);
            change(&mut hello);
            match one.judge(&hello) {
                Verdict::Refused(why) => why,
                other => panic!("{other:?}"),
            }
        };
        assert!(judge(|hello| hello.from = ServerId(1)).contains("both call themselves server 1"));
        assert!(judge(|hello| hello.to = ServerId(3)).contains("looks for server 3 here"));
        assert!(judge(|hello| hello.from = ServerId(9)).contains("server 9 is not among"));
        let why = judge(|hello| {
            hello.listed.pop();
        });
        assert!(why.contains("server 2 lists servers 1, 2, server 1 lists servers 1, 2, 3"), "{why}");
        let member = Formed { cluster: 5, births: vec![(ServerId(1), 11), (ServerId(2), 22)] };
        let member = Acquaintance::new(ServerId(1), 11, 1, THREE.to_vec(), Some(member));
        let mut hello = fresh(2, 22).hello(ServerId(1), Purpose::Messages);
        hello.cluster = 6;
        assert!(matches!(member.judge(&hello), Verdict::Refused(why) if why.contains("another ensemble")));
        // A second directory of server 2, while the first one is there.
        member.set_seated([(ServerId(2), 22)].into());
        member.set_connected(ServerId(2), Some(22));
        hello.cluster = 5;
        assert_eq!(member.judge(&hello), Verdict::Welcome, "the first one itself");
        hello.birth = 23;
        assert!(
            matches!(member.judge(&hello), Verdict::Refused(why) if why.contains("another data directory"))
        );
        member.set_connected(ServerId(2), None);
        assert_eq!(member.judge(&hello), Verdict::Welcome, "its disk was wiped");
    }

    #[test]
    fn a_cluster_is_joined_only_if_it_is_what_its_voters_formed() {
        let mut hello = fresh(2, 22).hello(ServerId(1), Purpose::Messages);
        hello.births = vec![(ServerId(1), 11), (ServerId(2), 22), (ServerId(3), 33)];
        hello.cluster = cluster_of(&hello.births);
        for bad in [Hello { cluster: 5, ..hello.clone() }, Hello { births: Vec::new(), ..hello.clone() }] {
            let one = fresh(1, 11);
            assert!(
                matches!(one.judge(&bad), Verdict::Refused(why) if why.contains("did not form it")),
                "{bad:?}"
            );
            assert_eq!(formed(&one), None);
        }
        let one = fresh(1, 11);
        assert_eq!(one.judge(&hello), Verdict::NotYet);
        assert_eq!(formed(&one), Some(Formed { cluster: hello.cluster, births: hello.births }));
    }

    /// Its configuration is from before the ensemble grew, and the two that it lists are wiped: a third one knows better.
    #[test]
    fn who_came_later_tells_wiped_servers_of_their_ensemble_before_they_form_another() {
        let two = vec![(ServerId(1), false), (ServerId(2), false)];
        let births = vec![(ServerId(1), 11), (ServerId(2), 22)];
        let cluster = Formed { cluster: cluster_of(&births), births };
        let third = Acquaintance::new(ServerId(3), 33, 1, THREE.to_vec(), Some(cluster.clone()));
        let wiped = [(1, 111), (2, 222)]
            .map(|(me, birth)| Acquaintance::new(ServerId(me), birth, 1, two.clone(), None));
        meet(&wiped[1], &wiped[0]);
        let soon = Duration::from_secs(600);
        assert_eq!(wiped[0].wait_formed(Duration::ZERO, soon), None, "there is time to hear of another one");
        meet(&third, &wiped[0]);
        assert_eq!(formed(&wiped[0]), Some(cluster.clone()));
        meet(&wiped[1], &wiped[0]);
        assert_eq!(formed(&wiped[1]), Some(cluster));
    }

    #[test]
    fn an_observer_joins_and_forms_nothing() {
        let listed = vec![(ServerId(1), false), (ServerId(2), true)];
        let voter = Acquaintance::new(ServerId(1), 11, 1, listed.clone(), None);
        let observer = Acquaintance::new(ServerId(2), 22, 1, listed, None);
        meet(&observer, &voter);
        assert!(formed(&voter).is_some());
        assert!(formed(&observer).is_none());
        meet(&observer, &voter);
        assert_eq!(formed(&observer), formed(&voter));
        assert_eq!(meet(&observer, &voter), (Verdict::Welcome, Verdict::Welcome));
    }
}
