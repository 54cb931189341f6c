//! Who of the other servers may speak with this one, and how listed servers with empty disks become one cluster.
//!
//! Each data directory has a random id of its own, its *birth*. Servers whose directories are new tell each other theirs;
//! who knows those of all listed voters forms the cluster out of them, and its id is a digest of them: whoever forms it,
//! it is the same one. Who belongs to a cluster says so with the births that it was formed of; a new directory whose birth
//! is among them joins it. A wiped disk has another birth: it can neither join as the voter that it was nor, with other
//! wiped ones, form a second history while a voter with the first one is missing.

use super::hello::{Hello, Listed, Purpose, Verdict};
use crate::ids::ServerId;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A cluster, and the directories that it was formed of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Formed {
    pub cluster: u128,
    /// Of the voters, ascending.
    pub births: Vec<(ServerId, u128)>,
}

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
        let state = Mutex::new(State { formed, heard });
        Acquaintance { me, birth, incarnation, listed, state, changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_observer(&self, server: ServerId) -> bool {
        self.listed.contains(&(server, true))
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
            listed: self.listed.clone(),
            births: state.formed.as_ref().map_or_else(Vec::new, |formed| formed.births.clone()),
        }
    }

    /// Waits until the cluster is known: formed now, or joined. `None`: not in this time.
    pub fn wait_formed(&self, timeout: Duration) -> Option<Formed> {
        let state = self.lock();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, timeout, |state| state.formed.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.formed.clone()
    }

    /// The listed voters that have not been heard of, while a cluster is being formed.
    pub fn missing(&self) -> Vec<ServerId> {
        let state = self.lock();
        let voters = self.listed.iter().filter(|(_, is_observer)| !is_observer);
        voters.map(|(server, _)| *server).filter(|server| !state.heard.contains_key(server)).collect()
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
        let mut state = self.lock();
        if let Some(ours) = &state.formed {
            return self.judge_as_member(ours, hello);
        }
        if hello.cluster != 0 {
            return self.join(&mut state, hello);
        }
        state.heard.insert(hello.from, hello.birth);
        self.form(&mut state);
        Verdict::NotYet
    }

    fn judge_as_member(&self, ours: &Formed, hello: &Hello) -> Verdict {
        let (me, them) = (self.me.0, hello.from.0);
        if hello.cluster != 0 && hello.cluster != ours.cluster {
            return Verdict::Refused(format!(
                "server {them} has the data of cluster {:032x}, server {me} of cluster {:032x}: one of them has a data \
                 directory of another ensemble",
                hello.cluster, ours.cluster
            ));
        }
        let known = ours.births.iter().find(|(server, _)| *server == hello.from).map(|(_, birth)| *birth);
        if !self.is_observer(hello.from) && known != Some(hello.birth) {
            return Verdict::Refused(wiped(them, self.me.0));
        }
        // A new directory learns the cluster from our hello, and comes again.
        if hello.cluster == 0 {
            Verdict::NotYet
        } else {
            Verdict::Welcome
        }
    }

    fn join(&self, state: &mut State, hello: &Hello) -> Verdict {
        // What is written to the disk now is believed for ever.
        let voters = self.listed.iter().filter(|(_, is_observer)| !is_observer).map(|(server, _)| *server);
        let is_whole = voters.eq(hello.births.iter().map(|(server, _)| *server));
        if !is_whole || cluster_of(&hello.births) != hello.cluster {
            return Verdict::Refused(format!(
                "server {} says that it belongs to cluster {:032x}, and names servers that did not form it",
                hello.from.0, hello.cluster
            ));
        }
        let own = hello.births.iter().find(|(server, _)| *server == self.me).map(|(_, birth)| *birth);
        if !self.is_observer(self.me) && own != Some(self.birth) {
            return Verdict::Refused(wiped(self.me.0, hello.from.0));
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

fn wiped(empty: u8, member: u8) -> String {
    format!(
        "server {empty} has an empty data directory, but the ensemble that server {member} belongs to was formed with \
         another one of it: bring its data back; a voter that has forgotten its votes is not let in again"
    )
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
        one.wait_formed(Duration::ZERO)
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

    #[test]
    fn wiped_disks_neither_come_back_as_voters_nor_form_a_second_history() {
        let servers = [fresh(1, 11), fresh(2, 22), fresh(3, 33)];
        meet(&servers[1], &servers[0]);
        meet(&servers[2], &servers[0]);
        let wiped = [fresh(2, 222), fresh(3, 333)];
        meet(&wiped[0], &wiped[1]);
        assert!(wiped.iter().all(|one| formed(one).is_none()), "the first voter has not answered");
        for one in &wiped {
            let (at_wiped, at_member) = meet(one, &servers[0]);
            assert!(matches!(at_wiped, Verdict::Refused(why) if why.contains("empty data directory")));
            assert!(matches!(at_member, Verdict::Refused(why) if why.contains("empty data directory")));
            assert!(formed(one).is_none());
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
    }

    #[test]
    fn a_cluster_is_joined_only_if_it_is_what_its_voters_formed() {
        let mut hello = fresh(2, 22).hello(ServerId(1), Purpose::Messages);
        hello.births = vec![(ServerId(1), 11), (ServerId(2), 22), (ServerId(3), 33)];
        hello.cluster = cluster_of(&hello.births);
        let others = [(ServerId(1), 11), (ServerId(2), 22)];
        let mut unlisted = hello.clone();
        (unlisted.births, unlisted.cluster) = (others.to_vec(), cluster_of(&others));
        for bad in
            [Hello { cluster: 5, ..hello.clone() }, Hello { births: Vec::new(), ..hello.clone() }, unlisted]
        {
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
