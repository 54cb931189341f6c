//! A server of an ensemble at its start: whether its data belongs to that ensemble, and how it meets the others.

use super::disk::DataDir;
use super::link::Links;
use super::peers::{self, Acquaintance, Arrival, Formed, Greeter, Peers, Protection, Transfer};
use super::signals::Signals;
use super::{preflight, Fatal};
use crate::config::{self, Config};
use crate::ids::ServerId;
use crossbeam::channel::{bounded, Receiver};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Connections of other servers that the sequencer has not taken, at the most.
const PEER_ARRIVALS_MAX: usize = 64;
/// While an ensemble is formed: how soon a signal is seen, and how often what is missing is said.
const SIGNAL_WITHIN: Duration = Duration::from_millis(50);
/// All listed voters are new: so long any other member has to say that the ensemble is there. It dials twice a second.
const FORM_AFTER: Duration = Duration::from_millis(1_200);
const SAY_MISSING_AFTER: Duration = Duration::from_secs(2);

/// Refuses data of another kind of server than the configuration describes: nothing would be lost by it at once, and much
/// by the next start with the right one.
pub(super) fn check_dir(config: &Config, dir: &DataDir) -> Result<(), Fatal> {
    let at = dir.path().display();
    let formed: Vec<ServerId> = dir.formed_of().iter().map(|(server, _)| *server).collect();
    let refused = |why: String| Err(Fatal::new(preflight::EX_CONFIG, why));
    let Some(ensemble) = &config.ensemble else {
        if formed.is_empty() {
            return Ok(());
        }
        return refused(format!(
            "data directory {at}: it belongs to an ensemble, which servers {} began, and the configuration has one \
             server alone: bring its server lines back, or name another directory (--data-dir)",
            list(&formed)
        ));
    };
    if formed.is_empty() && dir.is_begun() {
        info!(
            "data directory {at}: it holds the data of a server that ran alone: with it this server begins an ensemble, and \
             the others, with empty directories, take it over ({} servers are listed)",
            ensemble.servers.len()
        );
    }
    Ok(())
}

fn list(servers: &[ServerId]) -> String {
    let names: Vec<String> = servers.iter().map(|server| server.0.to_string()).collect();
    names.join(", ")
}

/// Listens for the other servers, dials them, and waits until the ensemble is formed. `None`: a signal came first.
pub(super) fn meet_peers(
    config: &Config,
    ensemble: &config::Ensemble,
    dir: &mut DataDir,
    incarnation: u64,
    links: &Arc<Links>,
    signals: &Signals,
) -> Result<Option<Met>, Fatal> {
    let me = config.server_id;
    let own = ensemble.servers.iter().find(|entry| entry.id == me);
    let own = own.map_or_else(Vec::new, |entry| entry.addresses.clone());
    let (listeners, unknown) =
        peers::listen(&own, ensemble.listen_on_all).map_err(|text| Fatal::new(preflight::EX_OSERR, text))?;
    for host in unknown {
        warn!("{host} (this server's line) is no address of this host: listening for other servers on all addresses");
    }
    let protection = protection(ensemble)?;
    // Behind all that may be wrong with the configuration: from here on the directory is an ensemble's, and no server alone
    // runs on it again.
    if dir.formed_of().is_empty() && dir.is_begun() {
        let own = vec![(config.server_id, dir.birth())];
        dir.set_formed(dir.cluster_id(), own).map_err(|error| unwritable(dir, &error))?;
    }
    let listed = ensemble.servers.iter().map(|entry| (entry.id, entry.is_observer)).collect();
    let formed = (!dir.formed_of().is_empty())
        .then(|| Formed { cluster: dir.cluster_id(), births: dir.formed_of().to_vec() });
    let acquaintance = Arc::new(Acquaintance::new(me, dir.birth(), incarnation, listed, formed.clone()));
    let (arrivals, arrived) = bounded(PEER_ARRIVALS_MAX);
    let greeter = Greeter::start(
        me,
        acquaintance.clone(),
        arrivals,
        links.clone(),
        protection,
        listeners,
        places_of(config),
    )
    .map_err(|error| Fatal::os("starting the threads that greet other servers", &error))?;
    if formed.is_none() {
        info!(
            "a new data directory: waiting for the other servers to form an ensemble, or to take this one in"
        );
        let Some(formed) = wait_formed(&acquaintance, signals) else { return Ok(None) };
        dir.set_formed(formed.cluster, formed.births).map_err(|error| unwritable(dir, &error))?;
    }
    info!("member of ensemble {:032x}", dir.cluster_id());
    Ok(Some(Met { arrived, greeter }))
}

fn unwritable(dir: &DataDir, error: &io::Error) -> Fatal {
    Fatal::os(&format!("writing to {}", dir.path().display()), error)
}

/// What greets the other servers, before there is a sequencer that speaks with them.
pub(super) struct Met {
    arrived: Receiver<Arrival>,
    greeter: Arc<Greeter>,
}

impl Met {
    pub(super) fn into_peers(self, links: &Links, transfer: Transfer) -> io::Result<Peers> {
        Peers::new(links.sequencer.as_fd(), self.arrived, self.greeter, transfer)
    }
}

pub(super) fn places_of(config: &Config) -> Vec<peers::Place> {
    let servers = config.ensemble.iter().flat_map(|ensemble| &ensemble.servers);
    servers.map(|entry| (entry.id, entry.addresses.clone())).collect()
}

fn protection(ensemble: &config::Ensemble) -> Result<Protection, Fatal> {
    if ensemble.security == config::PeerSecurity::Plain {
        tracing::warn!(
            "the servers of this ensemble speak in plain text: whoever reaches their ports can read and change \
             everything. Keep the ports to a network of their own, or set sslQuorum=true on all servers"
        );
    }
    Protection::load(&ensemble.security).map_err(|why| Fatal::new(preflight::EX_CONFIG, why))
}

fn wait_formed(acquaintance: &Acquaintance, signals: &Signals) -> Option<Formed> {
    let (mut since, mut said) = (Instant::now(), Vec::new());
    loop {
        if let Some(formed) = acquaintance.wait_formed(SIGNAL_WITHIN, FORM_AFTER) {
            return Some(formed);
        }
        if let Some(signal) = signals.look() {
            info!("{signal}: going down before there was an ensemble");
            return None;
        }
        let missing = acquaintance.missing();
        if since.elapsed() > SAY_MISSING_AFTER && missing != said && !missing.is_empty() {
            info!("not yet heard of server {}", list(&missing));
            (since, said) = (Instant::now(), missing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::disk::DirOptions;
    use std::net::TcpListener;

    #[test]
    fn a_start_that_fails_makes_no_ensemble_of_a_server_that_ran_alone() {
        let home = tempfile::tempdir().unwrap();
        let shown = home.path().display();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let options = DirOptions { path: home.path().into(), log_path: None, server: ServerId(1) };
        let mut dir = DataDir::open(&options).unwrap();
        dir.set_begun().unwrap();
        std::fs::write(home.path().join("myid"), "1\n").unwrap();
        let (links, signals) = (Arc::new(Links::new(1).unwrap()), Signals::block().unwrap());
        let mut meet = |more: &str| {
            let file = home.path().join(".zoo.cfg");
            let lines: String = (1..4).map(|n| format!("server.{n}=127.0.0.{n}:{port}:1\n")).collect();
            std::fs::write(&file, format!("dataDir={shown}\nclientPort=0\n{lines}{more}")).unwrap();
            let args = config::ServeArgs { file: Some(file), ..config::ServeArgs::default() };
            let (config, _) = config::load(&args).unwrap();
            let ensemble = config.ensemble.as_ref().unwrap();
            let met = meet_peers(&config, ensemble, &mut dir, 1, &links, &signals);
            assert!(dir.formed_of().is_empty());
            met.err().expect("it can not start").text
        };
        let text = meet("");
        assert!(text.contains(&port.to_string()), "{text}");
        drop(taken);
        let text = meet(&format!(
            "sslQuorum=true\nssl.quorum.keyStore.location={shown}/key.pem\nssl.quorum.trustStore.location={shown}/ca.pem\n"
        ));
        assert!(text.contains("key.pem"), "{text}");
    }
}
