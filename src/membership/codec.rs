//! Steps and memberships as bytes; `FORMAT.md` has the layout. Decoding never panics: a log is data from outside.

use super::reconfig::parse_lines;
use super::{Conf, Membership, ServerEntry, Wish};
use crate::ids::{ConnId, Owner, Seat, ServerId, ShardId, Xid, Zxid};
use crate::wire::{put_i32, put_i64, Reader, Truncated};
use std::collections::{BTreeMap, BTreeSet};

const VERSION: u8 = 1;

/// One step of a change, as the leader proposes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The first lines.
    Form { lines: BTreeMap<ServerId, ServerEntry> },
    /// Into a joint configuration of these; a newcomer's directory gets a seat and learns beside them. Who is not named
    /// goes.
    Enter { seat: Option<(ServerId, u128)>, voters: BTreeSet<Seat>, learners: BTreeSet<Seat> },
    /// Out of the joint configuration.
    Leave,
    /// What was wished for has come to be.
    Done,
    /// It can not be: there is no majority of the new members that has caught up.
    Refuse,
    /// What a server asks for itself: to be listed so, or no more.
    Wish { joining: BTreeMap<ServerId, ServerEntry>, leaving: BTreeSet<ServerId> },
    /// From here on apply follows this version of its rules: every member knows it.
    Rules { version: u32 },
}

/// Bytes that are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged;

impl From<Truncated> for Damaged {
    fn from(_: Truncated) -> Damaged {
        Damaged
    }
}

impl Step {
    /// Whether Raft's configuration changes with it, and so the entry's kind.
    #[must_use]
    pub fn changes_conf(&self) -> bool {
        matches!(self, Step::Enter { .. } | Step::Leave)
    }

    /// Whether it takes a zxid: what clients see of it does.
    #[must_use]
    pub fn takes_zxid(&self) -> bool {
        matches!(self, Step::Form { .. } | Step::Done)
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Step::Form { lines } => {
                out.push(1);
                put_lines(&mut out, lines);
            }
            Step::Enter { seat, voters, learners } => {
                out.push(2);
                match seat {
                    None => out.push(0),
                    Some((server, birth)) => {
                        out.extend_from_slice(&[1, server.0]);
                        out.extend_from_slice(&birth.to_be_bytes());
                    }
                }
                put_seats(&mut out, voters);
                put_seats(&mut out, learners);
            }
            Step::Leave => out.push(3),
            Step::Done => out.push(4),
            Step::Refuse => out.push(5),
            Step::Rules { version } => {
                out.push(7);
                out.extend_from_slice(&version.to_be_bytes());
            }
            Step::Wish { joining, leaving } => {
                out.push(6);
                put_lines(&mut out, joining);
                put_count(&mut out, leaving.len());
                out.extend(leaving.iter().map(|server| server.0));
            }
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Step, Damaged> {
        let mut reader = Reader::new(bytes);
        let step = match reader.u8()? {
            1 => Step::Form { lines: lines(&mut reader)? },
            2 => {
                let seat = match reader.u8()? {
                    0 => None,
                    1 => Some((ServerId(reader.u8()?), u128::from_be_bytes(fixed(&mut reader)?))),
                    _ => return Err(Damaged),
                };
                Step::Enter { seat, voters: seats(&mut reader)?, learners: seats(&mut reader)? }
            }
            3 => Step::Leave,
            4 => Step::Done,
            5 => Step::Refuse,
            7 => Step::Rules { version: u32::from_be_bytes(fixed(&mut reader)?) },
            6 => {
                let joining = lines(&mut reader)?;
                let leaving = (0..count(&mut reader)?).map(|_| Ok(ServerId(reader.u8()?)));
                Step::Wish { joining, leaving: leaving.collect::<Result<_, Truncated>>()? }
            }
            _ => return Err(Damaged),
        };
        if reader.rest().is_empty() {
            Ok(step)
        } else {
            Err(Damaged)
        }
    }
}

impl Membership {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        if !self.is_ensemble() {
            return Vec::new();
        }
        let mut out = vec![VERSION];
        put_i64(&mut out, self.version.0);
        out.extend_from_slice(&self.next_generation.to_be_bytes());
        put_lines(&mut out, &self.servers);
        put_count(&mut out, self.seats.len());
        for (seat, birth) in &self.seats {
            out.extend_from_slice(&seat.0.to_be_bytes());
            out.extend_from_slice(&birth.to_be_bytes());
        }
        let Conf { voters, outgoing, learners, learners_next } = &self.conf;
        for some in [voters, outgoing, learners, learners_next] {
            put_seats(&mut out, some);
        }
        match &self.wish {
            None => out.push(0),
            Some(Wish { zxid, asker, target }) => {
                out.push(1);
                put_i64(&mut out, zxid.0);
                out.push(u8::from(asker.is_some()));
                if let Some((owner, xid)) = asker {
                    out.push(owner.server.0);
                    out.extend_from_slice(&owner.incarnation.to_be_bytes());
                    out.extend_from_slice(&owner.shard.0.to_be_bytes());
                    out.extend_from_slice(&owner.conn.0.to_be_bytes());
                    put_i32(&mut out, xid.0);
                }
                put_lines(&mut out, target);
            }
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Membership, Damaged> {
        if bytes.is_empty() {
            return Ok(Membership::default());
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Damaged);
        }
        let version = Zxid(reader.i64()?);
        let next_generation = u64::from_be_bytes(fixed(&mut reader)?);
        let servers = lines(&mut reader)?;
        let mut all = BTreeMap::new();
        for _ in 0..count(&mut reader)? {
            let seat = Seat(u64::from_be_bytes(fixed(&mut reader)?));
            all.insert(seat, u128::from_be_bytes(fixed(&mut reader)?));
        }
        let conf = Conf {
            voters: seats(&mut reader)?,
            outgoing: seats(&mut reader)?,
            learners: seats(&mut reader)?,
            learners_next: seats(&mut reader)?,
        };
        let wish = match reader.u8()? {
            0 => None,
            1 => {
                let zxid = Zxid(reader.i64()?);
                let asker = match reader.u8()? {
                    0 => None,
                    1 => Some((owner(&mut reader)?, Xid(reader.i32()?))),
                    _ => return Err(Damaged),
                };
                Some(Wish { zxid, asker, target: lines(&mut reader)? })
            }
            _ => return Err(Damaged),
        };
        let is_whole = reader.rest().is_empty()
            && !conf.voters.is_empty()
            && conf.seats().all(|seat| all.contains_key(&seat));
        if !is_whole {
            return Err(Damaged);
        }
        Ok(Membership { version, servers, conf, seats: all, next_generation, wish })
    }
}

fn fixed<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], Truncated> {
    reader.take(N)?.try_into().map_err(|_| Truncated)
}

fn owner(reader: &mut Reader<'_>) -> Result<Owner, Truncated> {
    Ok(Owner {
        server: ServerId(reader.u8()?),
        incarnation: u64::from_be_bytes(fixed(reader)?),
        shard: ShardId(u16::from_be_bytes(fixed(reader)?)),
        conn: ConnId(u64::from_be_bytes(fixed(reader)?)),
    })
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).expect("an ensemble has at most 255 servers, each with a few seats");
    out.extend_from_slice(&count.to_be_bytes());
}

fn count(reader: &mut Reader<'_>) -> Result<u16, Truncated> {
    Ok(u16::from_be_bytes(fixed(reader)?))
}

fn put_seats(out: &mut Vec<u8>, seats: &BTreeSet<Seat>) {
    put_count(out, seats.len());
    seats.iter().for_each(|seat| out.extend_from_slice(&seat.0.to_be_bytes()));
}

fn seats(reader: &mut Reader<'_>) -> Result<BTreeSet<Seat>, Truncated> {
    (0..count(reader)?).map(|_| Ok(Seat(u64::from_be_bytes(fixed(reader)?)))).collect()
}

fn put_lines(out: &mut Vec<u8>, lines: &BTreeMap<ServerId, ServerEntry>) {
    let mut text = String::new();
    for entry in lines.values() {
        text.push_str(&format!("server.{}={entry}\n", entry.id.0));
    }
    out.extend_from_slice(&u32::try_from(text.len()).expect("a frame is shorter").to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn lines(reader: &mut Reader<'_>) -> Result<BTreeMap<ServerId, ServerEntry>, Damaged> {
    let length = u32::from_be_bytes(fixed(reader)?);
    let text = reader.take(usize::try_from(length).map_err(|_| Damaged)?)?;
    let text = std::str::from_utf8(text).map_err(|_| Damaged)?;
    parse_lines(text.lines()).map_err(|_| Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::parse_server;

    fn some() -> Membership {
        let mut members = Membership::formed(&[(ServerId(1), 11), (ServerId(2), 22)]);
        for (id, line) in [(1, "a:1:2;2181"), (2, "[::1]:1:2:observer")] {
            members.servers.insert(ServerId(id), parse_server(ServerId(id), line).unwrap());
        }
        members.take(&Step::Enter {
            seat: Some((ServerId(2), 7 << 99)),
            voters: [Seat::new(ServerId(1), 0)].into(),
            learners: [Seat::new(ServerId(2), 0)].into(),
        });
        members.wish = Some(Wish {
            zxid: Zxid(5),
            asker: Some((
                Owner { server: ServerId(2), incarnation: 3, shard: ShardId(1), conn: ConnId(8) },
                Xid(-9),
            )),
            target: members.servers.clone(),
        });
        members
    }

    #[test]
    fn what_is_written_is_read_and_every_truncation_is_refused() {
        let members = some();
        let bytes = members.encode();
        assert_eq!(Membership::decode(&bytes), Ok(members.clone()));
        for cut in 1..bytes.len() {
            assert_eq!(Membership::decode(&bytes[..cut]), Err(Damaged), "cut at {cut}");
        }
        assert_eq!(Membership::decode(&[]), Ok(Membership::default()));
        let steps = [
            Step::Form { lines: members.servers.clone() },
            Step::Enter {
                seat: Some((ServerId(3), 9)),
                voters: members.conf.voters.clone(),
                learners: BTreeSet::new(),
            },
            Step::Enter { seat: None, voters: members.conf.voters, learners: BTreeSet::new() },
            Step::Leave,
            Step::Done,
            Step::Refuse,
            Step::Rules { version: 7 },
            Step::Wish { joining: members.servers, leaving: [ServerId(9)].into() },
        ];
        for step in steps {
            let bytes = step.encode();
            assert_eq!(Step::decode(&bytes), Ok(step));
            for cut in 0..bytes.len() {
                assert_eq!(Step::decode(&bytes[..cut]), Err(Damaged), "cut at {cut}");
            }
        }
    }
}
