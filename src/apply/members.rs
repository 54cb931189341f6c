//! reconfig, and the leader's steps by which a change of members comes to be.

use super::digest;
use super::state::{Stamp, State};
use super::txn::{Damaged, Identities};
use crate::error::Code;
use crate::ids::{Owner, Xid};
use crate::membership::{parse_reconfig, ConfChange, Refusal, Step, Wish};
use crate::tree::{path, Answer, Change, Node, Znode};
use crate::wire::{Perms, Reconfig};

/// What /zookeeper/config shows as its data's version, whatever has been done to it.
const CONFIG_NODE_VERSION: i32 = -1;

impl State {
    /// What the last batch has changed in Raft's configuration.
    pub fn take_conf_change(&mut self) -> Option<ConfChange> {
        self.conf_change.take()
    }

    /// Why a reconfig of the last batch was refused.
    pub fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    /// A client's wish for other members. It is answered when they are (`Step::Done`), or can not be.
    pub(super) fn on_reconfig(
        &mut self,
        body: &[u8],
        identities: &Identities<'_>,
        asker: (Owner, Xid),
        stamp: Stamp,
    ) -> Answer {
        match self.wish(body, identities, asker, stamp) {
            Ok(wish) => {
                self.membership.wish = Some(wish);
                Answer::Later
            }
            Err(refusal) => {
                let code = refusal.code;
                self.refusal = Some(refusal);
                Answer::Code(code)
            }
        }
    }

    fn wish(
        &self,
        body: &[u8],
        identities: &Identities<'_>,
        asker: (Owner, Xid),
        stamp: Stamp,
    ) -> Result<Wish, Refusal> {
        let no = |code, why: &str| Err(Refusal::new(code, why));
        let Ok(reconfig) = Reconfig::decode(body) else {
            return no(Code::MarshallingError, "its record does not decode");
        };
        let members = &self.membership;
        if !stamp.options.reconfig_enabled {
            return no(Code::ReconfigDisabled, "reconfigEnabled is false at the leader");
        }
        if !members.is_ensemble() {
            return no(Code::Unimplemented, "this server runs alone: there is no ensemble to change");
        }
        if members.wish.is_some() || members.servers.is_empty() {
            return no(Code::ReconfigInProgress, "another change of the members is under way");
        }
        if reconfig.config_id != -1 && reconfig.config_id != members.version.0 {
            let (asked, version) = (reconfig.config_id, members.version.0);
            let why =
                format!("it was asked for version {asked:x} of /zookeeper/config, which is at {version:x}");
            return no(Code::BadVersion, &why);
        }
        let target = parse_reconfig(&reconfig, &members.servers)?;
        let node = self.node(path::CONFIG).expect("nobody can delete what ZooKeeper keeps there");
        if let Err(code) = self.check_acl(&node, Perms::WRITE, identities, stamp) {
            return no(code, "its client has no WRITE permission on /zookeeper/config");
        }
        Ok(Wish { zxid: stamp.zxid, asker: Some(asker), target })
    }

    pub(super) fn take_step(&mut self, bytes: &[u8], stamp: Stamp) -> Result<Answer, Damaged> {
        let step = Step::decode(bytes).map_err(|_| Damaged)?;
        let answer = match &step {
            Step::Form { lines } if self.membership.servers.is_empty() => {
                self.membership.servers.clone_from(lines);
                self.show_members(stamp);
                Answer::Code(Code::Ok)
            }
            Step::Done => match self.membership.wish.take() {
                Some(wish) => {
                    self.membership.servers = wish.target;
                    self.late = wish.asker;
                    Answer::Data(self.show_members(stamp))
                }
                None => Answer::Code(Code::Ok),
            },
            Step::Refuse => {
                self.late = self.membership.wish.take().and_then(|wish| wish.asker);
                Answer::Code(Code::NewConfigNoQuorum)
            }
            Step::Wish { joining, leaving } => {
                let members = &mut self.membership;
                let may = members.wish.is_none() && !members.servers.is_empty();
                if let Some(target) = members.target(joining, leaving).filter(|_| may) {
                    members.wish = Some(Wish { zxid: stamp.zxid, asker: None, target });
                }
                Answer::Code(Code::Ok)
            }
            Step::Rules { version } => {
                self.rules = self.rules.max(*version);
                Answer::Code(Code::Ok)
            }
            Step::Enter { .. } | Step::Leave | Step::Form { .. } => {
                self.conf_change = self.membership.take(&step);
                Answer::Code(Code::Ok)
            }
        };
        // Seats are in no znode: servers that differ in them shall be found out all the same.
        self.chain =
            self.membership.seats.keys().fold(self.chain, |chain, seat| digest::link(chain, &seat.0));
        Ok(answer)
    }

    /// Writes the lines into /zookeeper/config.
    fn show_members(&mut self, stamp: Stamp) -> Node {
        self.membership.version = stamp.zxid;
        let old = self.node(path::CONFIG).expect("nobody can delete what ZooKeeper keeps there");
        let znode =
            Znode { mzxid: stamp.zxid, mtime: stamp.wall, version: CONFIG_NODE_VERSION, ..(*old).clone() };
        let node = Node::new(znode, Some(self.membership.text().as_bytes()));
        self.replace_node(node.clone(), Change::DataSet { node: node.clone() });
        node
    }
}
