//! Frames recorded from a real ZooKeeper: decoded, encoded again, equal to the byte. `README.md` tells what stands in
//! `frames.txt`; what may not come back byte for byte is decided here by the same words in a frame's name.

use ringkeeper::ids::{Xid, Zxid};
use ringkeeper::wire::{
    begin_frame, end_frame, java_text, put_buffer, put_i32, put_multi_end, put_multi_header, watcher_event,
    Acl, AclRef, AuthPacket, ConnectRequest, ConnectResponse, Create, Delete, EventType, GetAcl, Id,
    MultiItem, MultiReader, OpCode, PathAndType, PathAndWatch, Perms, Reader, Reconfig, RequestHeader,
    SetAcl, SetData, SetWatches, Stat, Truncated,
};
use std::collections::BTreeMap;

struct Frame {
    line: usize,
    name: String,
    op: String,
    from_server: bool,
    bytes: Vec<u8>,
}

fn frames() -> Vec<Frame> {
    let text = include_str!("frames.txt");
    let mut frames = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.starts_with('#') && !l.is_empty()) {
        let mut words = line.split(' ');
        let (name, way, hex) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        frames.push(Frame {
            line: n + 1,
            name: name.to_owned(),
            op: name.split('.').next().unwrap().to_owned(),
            from_server: way == "<",
            bytes: bytes.collect(),
        });
    }
    frames
}

/// What the codec made of a frame.
#[derive(PartialEq, Eq, Debug)]
enum Made {
    Bytes(Vec<u8>),
    Refused,
}

/// Every frame, both ways. Only a malformed request may be refused or come back otherwise.
#[test]
fn every_recorded_frame_comes_back_to_the_byte() {
    let mut wrong = Vec::new();
    let mut same = 0;
    let all = frames();
    for frame in &all {
        let body = &frame.bytes[4..];
        let length = u32::from_be_bytes(frame.bytes[..4].try_into().unwrap());
        assert_eq!(length as usize, body.len(), "line {}", frame.line);
        let made = if frame.from_server { reply(&frame.op, body) } else { request(&frame.op, body) };
        let made = made.map_or(Made::Refused, |again| {
            let mut out = Vec::new();
            let start = begin_frame(&mut out);
            out.extend_from_slice(&again);
            end_frame(&mut out, start);
            Made::Bytes(out)
        });
        let may_differ = !frame.from_server && frame.name.contains(".malformed-");
        match made {
            Made::Bytes(bytes) if bytes == frame.bytes => same += 1,
            _ if may_differ => {}
            made => wrong.push(format!("line {} {}: {made:02x?}", frame.line, frame.name)),
        }
    }
    assert!(wrong.is_empty(), "{} of {} frames differ:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    println!("{same} of {} frames came back to the byte", all.len());
    assert!(same > 500, "the recording is there: {same}");
}

/// No recorded frame, cut anywhere, makes a decoder panic or pass for the whole.
#[test]
fn a_recorded_request_cut_short_is_refused() {
    for frame in frames().iter().filter(|f| !f.from_server && !f.name.contains(".malformed-")) {
        let body = &frame.bytes[4..];
        let whole = request(&frame.op, body).unwrap_or_else(|_| panic!("{}", frame.name));
        for cut in 0..body.len() {
            match request(&frame.op, &body[..cut]) {
                Err(Truncated) => {}
                // A handshake without its last byte is that of an older client.
                Ok(again) => assert!(
                    frame.op == "connect" && cut == 44.min(body.len() - 1) || again != whole,
                    "{} cut at {cut}",
                    frame.name
                ),
            }
        }
    }
}

/// Every operation that ZooKeeper has stands in the recording.
#[test]
fn the_recording_holds_every_operation_both_ways() {
    let mut seen: BTreeMap<String, [bool; 2]> = BTreeMap::new();
    for frame in frames() {
        seen.entry(frame.op).or_default()[usize::from(frame.from_server)] = true;
    }
    let one_way = ["event"];
    for (op, ways) in &seen {
        assert!(ways[1] && (ways[0] || one_way.contains(&op.as_str())), "{op}: {ways:?}");
    }
    assert!(seen.len() >= 31, "{} operations", seen.len());
}

// ---- requests ----

fn request(op: &str, body: &[u8]) -> Result<Vec<u8>, Truncated> {
    let mut out = Vec::new();
    if op == "connect" {
        ConnectRequest::decode(body)?.encode(&mut out);
        return Ok(out[4..].to_vec());
    }
    let (header, body) = RequestHeader::decode(body)?;
    header.encode(&mut out);
    let code = OpCode::from_i32(header.op);
    let Some(code) = code.filter(|_| op != "unknown") else {
        assert_eq!((op, code), ("unknown", None));
        return Ok(out);
    };
    match code {
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
            Create::decode(code, body)?.encode(code, &mut out);
        }
        OpCode::Delete | OpCode::Check => Delete::decode(body)?.encode(&mut out),
        OpCode::Exists | OpCode::GetData | OpCode::GetChildren | OpCode::GetChildren2 => {
            PathAndWatch::decode(body)?.encode(&mut out);
        }
        OpCode::SetData => SetData::decode(body)?.encode(&mut out),
        OpCode::GetAcl
        | OpCode::Sync
        | OpCode::GetEphemerals
        | OpCode::GetAllChildrenNumber
        | OpCode::DeleteContainer => GetAcl::decode(body)?.encode(&mut out),
        OpCode::SetAcl => SetAcl::decode(body)?.encode(&mut out),
        OpCode::CheckWatches | OpCode::RemoveWatches | OpCode::AddWatch => {
            PathAndType::decode(body)?.encode(&mut out);
        }
        OpCode::Reconfig => Reconfig::decode(body)?.encode(&mut out),
        OpCode::Auth => AuthPacket::decode(body)?.encode(&mut out),
        OpCode::Sasl => put_buffer(&mut out, Reader::new(body).buffer()?),
        OpCode::SetWatches | OpCode::SetWatches2 => SetWatches::decode(code, body)?.encode(code, &mut out),
        OpCode::Multi | OpCode::MultiRead => multi(code, body, &mut out)?,
        OpCode::Ping | OpCode::WhoAmI | OpCode::CloseSession => {}
        OpCode::CreateSession => panic!("no client sends it"),
    }
    Ok(out)
}

fn multi(code: OpCode, body: &[u8], out: &mut Vec<u8>) -> Result<(), Truncated> {
    let mut items = MultiReader::new(code, body);
    while let Some(item) = items.next_item()? {
        let (op, mut record) = (kind(&item), Vec::new());
        match &item {
            MultiItem::Create(op, create) => create.encode(*op, &mut record),
            MultiItem::Delete(delete) => delete.encode(&mut record),
            MultiItem::Check(check) => check.encode(&mut record),
            MultiItem::SetData(set) => set.encode(&mut record),
            MultiItem::GetData(get) | MultiItem::GetChildren(get) => get.encode(&mut record),
        }
        put_multi_header(out, op.as_i32(), false, -1);
        out.extend_from_slice(&record);
    }
    put_multi_end(out);
    Ok(())
}

fn kind(item: &MultiItem<'_>) -> OpCode {
    match item {
        MultiItem::Create(op, _) => *op,
        MultiItem::Delete(_) => OpCode::Delete,
        MultiItem::Check(_) => OpCode::Check,
        MultiItem::SetData(_) => OpCode::SetData,
        MultiItem::GetData(_) => OpCode::GetData,
        MultiItem::GetChildren(_) => OpCode::GetChildren,
    }
}

// ---- replies: the server only writes them, so they are read here ----

fn reply(op: &str, body: &[u8]) -> Result<Vec<u8>, Truncated> {
    let mut out = Vec::new();
    if op == "connect" {
        ConnectResponse::decode(body)?.encode(&mut out);
        return Ok(out[4..].to_vec());
    }
    let mut reader = Reader::new(body);
    let (xid, zxid, err) = (reader.i32()?, reader.i64()?, reader.i32()?);
    if op == "event" {
        let (kind, state) = (reader.i32()?, reader.i32()?);
        let path = reader.string()?.expect("an event has a path");
        assert_eq!((xid, err, state), (-1, 0, 3), "what every event is");
        watcher_event(&mut out, event(kind), Zxid(zxid), &path);
        return Ok(out[4..].to_vec());
    }
    header(&mut out, xid, zxid, err);
    if err == 0 || op == "sasl" {
        reply_body(op, &mut reader, &mut out)?;
    }
    assert!(reader.rest().is_empty(), "{op}: bytes behind the record: {:02x?}", reader.rest());
    Ok(out)
}

fn header(out: &mut Vec<u8>, xid: i32, zxid: i64, err: i32) {
    let code = CODES.iter().find(|code| code.as_i32() == err);
    let code = code.unwrap_or_else(|| panic!("error {err} is in no table of ours"));
    ringkeeper::wire::reply_header(out, Xid(xid), Zxid(zxid), *code);
}

fn reply_body(op: &str, reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Truncated> {
    match op {
        "create" => text(reader, out)?,
        "create2" | "createContainer" | "createTTL" => {
            text(reader, out)?;
            stat(reader, out)?;
        }
        "exists" | "setData" | "setACL" => stat(reader, out)?,
        "getData" | "reconfig" => {
            put_buffer(out, reader.buffer()?);
            stat(reader, out)?;
        }
        "getChildren" | "getEphemerals" => texts(reader, out)?,
        "getChildren2" => {
            texts(reader, out)?;
            stat(reader, out)?;
        }
        "getACL" => {
            let count = reader.count(12)?.expect("a list");
            let mut list = Vec::new();
            for _ in 0..count {
                list.push(Acl { perms: Perms(reader.i32()?), id: id(reader)? });
            }
            Acl::encode_list(&list, out);
            stat(reader, out)?;
        }
        "whoAmI" => {
            let count = reader.count(8)?.expect("a list");
            put_i32(out, count as i32);
            for _ in 0..count {
                text(reader, out)?;
                text(reader, out)?;
            }
        }
        // Echoed as Java echoes text.
        "sync" => put_buffer(out, reader.buffer()?.map(java_text).as_deref()),
        "sasl" => put_buffer(out, reader.buffer()?),
        "getAllChildrenNumber" | "addWatch" => put_i32(out, reader.i32()?),
        "multi" | "multiRead" => results(reader, out)?,
        _ => {}
    }
    Ok(())
}

fn results(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Truncated> {
    loop {
        let (kind, done, err) = (reader.i32()?, reader.bool()?, reader.i32()?);
        put_multi_header(out, kind, done, err);
        if done {
            return Ok(());
        }
        match kind {
            -1 => {
                let code = reader.i32()?;
                assert_eq!(code, err, "the code stands twice");
                put_i32(out, code);
            }
            1 => text(reader, out)?,
            15 => {
                text(reader, out)?;
                stat(reader, out)?;
            }
            4 => {
                put_buffer(out, reader.buffer()?);
                stat(reader, out)?;
            }
            5 => stat(reader, out)?,
            8 => texts(reader, out)?,
            2 | 13 => {}
            other => panic!("a multi has no result of type {other}"),
        }
    }
}

fn text(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Truncated> {
    put_buffer(out, reader.string()?.as_ref().map(|t| t.as_bytes()));
    Ok(())
}

fn texts(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Truncated> {
    let count = reader.count(4)?.expect("a list");
    put_i32(out, count as i32);
    (0..count).try_for_each(|_| text(reader, out))
}

fn stat(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Truncated> {
    Stat::decode(reader)?.encode(out);
    Ok(())
}

fn id(reader: &mut Reader<'_>) -> Result<Id, Truncated> {
    Ok(Id::new(&reader.string()?.expect("a scheme"), &reader.string()?.expect("an id")))
}

fn event(kind: i32) -> EventType {
    use EventType::*;
    [NodeCreated, NodeDeleted, NodeDataChanged, NodeChildrenChanged]
        .into_iter()
        .find(|event| *event as i32 == kind)
        .expect("one of the four")
}

use ringkeeper::error::Code;

/// Every code that a recorded reply bears, and that a client may be told.
const CODES: &[Code] = &[
    Code::Ok,
    Code::RuntimeInconsistency,
    Code::MarshallingError,
    Code::Unimplemented,
    Code::BadArguments,
    Code::NoNode,
    Code::NoAuth,
    Code::BadVersion,
    Code::NoChildrenForEphemerals,
    Code::NodeExists,
    Code::NotEmpty,
    Code::SessionExpired,
    Code::InvalidAcl,
    Code::AuthFailed,
    Code::NotReadOnly,
    Code::NoWatcher,
    Code::ReconfigDisabled,
    Code::QuotaExceeded,
    Code::ThrottledOp,
];

/// Kept so that the import of `AclRef` says what a request's ACL is made of.
#[test]
fn a_recorded_acl_keeps_its_nulls() {
    let all = frames();
    let frame = all.iter().find(|f| f.name == "create.error-null-acl" && !f.from_server).unwrap();
    let (_, body) = RequestHeader::decode(&frame.bytes[4..]).unwrap();
    let acl: Option<Vec<AclRef<'_>>> = Create::decode(OpCode::Create, body).unwrap().acl;
    assert_eq!(acl, None);
}
