//! What a data directory says of itself, in `ringkeeper.id`: a few lines of text and a checksum.

use crate::ids::{Seat, ServerId};

const FORMAT: u32 = 1;

/// What the marker says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster's id. Until an ensemble is formed, the birth.
    pub cluster: u128,
    /// The server.
    pub server: ServerId,
    /// The first segment is durable: from now on a missing log is damage.
    pub begun: bool,
    /// The directory's own id.
    pub birth: u128,
    /// The voters' births that the ensemble was formed of, ascending. Empty for a server alone.
    pub formed_of: Vec<(ServerId, u128)>,
    /// The generation of the seat that the directory has, if it was not among those.
    pub generation: Option<u64>,
    /// The server has left the ensemble: its process ended because of that.
    pub has_left: bool,
}

pub(super) enum MarkerFault {
    Damaged(&'static str),
    Format(u32),
}

impl Identity {
    /// Whether no ensemble knows this directory: its server runs alone, or waits for its first others.
    #[must_use]
    pub fn is_no_member(&self) -> bool {
        self.formed_of.is_empty() && self.generation.is_none()
    }

    /// Of a new directory.
    #[must_use]
    pub fn new(birth: u128, server: ServerId) -> Identity {
        Identity {
            cluster: birth,
            server,
            begun: false,
            birth,
            formed_of: Vec::new(),
            generation: None,
            has_left: false,
        }
    }

    /// The seat that it has in Raft: one that was given to it, or, where it was there from the beginning, the first one.
    #[must_use]
    pub fn seat(&self) -> Seat {
        let is_first = self.formed_of.is_empty() || self.formed_of.contains(&(self.server, self.birth));
        match self.generation {
            Some(generation) => Seat::new(self.server, generation),
            None if is_first => Seat::new(self.server, 0),
            None => Seat::none(self.server),
        }
    }

    pub(super) fn text(&self) -> String {
        let state = if self.begun { "begun" } else { "new" };
        let mut body = format!(
            "ringkeeper data directory\nformat {FORMAT}\ncluster {:032x}\nserver {}\nlog {state}\nbirth {:032x}\n",
            self.cluster, self.server.0, self.birth
        );
        for (server, birth) in &self.formed_of {
            body.push_str(&format!("voter {} {birth:032x}\n", server.0));
        }
        if let Some(generation) = self.generation {
            body.push_str(&format!("seat {generation}\n"));
        }
        if self.has_left {
            body.push_str("left\n");
        }
        let check = crc32c::crc32c(body.as_bytes());
        format!("{body}check {check:08x}\n")
    }

    pub(super) fn parse(text: &str) -> Result<Identity, MarkerFault> {
        let damaged = |what: &'static str| MarkerFault::Damaged(what);
        let (body, check) = text.rsplit_once("check ").ok_or(damaged("the checksum is missing"))?;
        let check = check.strip_suffix('\n').and_then(|c| u32::from_str_radix(c, 16).ok());
        if check != Some(crc32c::crc32c(body.as_bytes())) {
            return Err(damaged("the checksum does not fit"));
        }
        let find = |key: &str| body.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let field = |key: &str| find(key).ok_or(damaged("a line is missing"));
        let format = field("format")?.parse().map_err(|_| damaged("the format is no number"))?;
        if format != FORMAT {
            return Err(MarkerFault::Format(format));
        }
        let wide =
            |text: &str| u128::from_str_radix(text, 16).map_err(|_| damaged("the cluster is no number"));
        let server = |text: &str| text.parse().map(ServerId).map_err(|_| damaged("the server is no number"));
        let cluster = wide(field("cluster")?)?;
        let mut formed_of = Vec::new();
        for line in body.lines().filter_map(|line| line.strip_prefix("voter ")) {
            let (id, birth) = line.split_once(' ').ok_or(damaged("a voter without its directory"))?;
            formed_of.push((server(id)?, wide(birth)?));
        }
        Ok(Identity {
            cluster,
            server: server(field("server")?)?,
            begun: field("log")? == "begun",
            // Of a release that knew no ensembles.
            birth: find("birth").map_or(Ok(cluster), wide)?,
            formed_of,
            generation: find("seat")
                .map(|generation| generation.parse().map_err(|_| damaged("the seat is no number")))
                .transpose()?,
            has_left: body.lines().any(|line| line == "left"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut identity = Identity::new(7, ServerId(2));
        assert_eq!(Identity::parse(&identity.text()).ok(), Some(identity.clone()));
        identity.cluster = 9;
        identity.formed_of = vec![(ServerId(1), 5), (ServerId(2), 7)];
        identity.begun = true;
        assert_eq!(identity.seat(), Seat::new(ServerId(2), 0));
        identity.formed_of[1].1 = 8;
        assert_eq!(identity.seat(), Seat::none(ServerId(2)), "formed of another directory of its");
        (identity.generation, identity.has_left) = (Some(3), true);
        assert_eq!(identity.seat(), Seat::new(ServerId(2), 3));
        assert_eq!(Identity::parse(&identity.text()).ok(), Some(identity));
    }

    #[test]
    fn one_of_a_release_without_ensembles_is_read() {
        let body = "ringkeeper data directory\nformat 1\ncluster 0f\nserver 1\nlog begun\n";
        let text = format!("{body}check {:08x}\n", crc32c::crc32c(body.as_bytes()));
        let want = Identity { begun: true, ..Identity::new(15, ServerId(1)) };
        assert_eq!(Identity::parse(&text).ok(), Some(want));
    }
}
