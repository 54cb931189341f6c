//! What a stranger sends: frames are cut and decoded as the request that they name. A record or a refusal, never a
//! panic; and what was decoded survives being encoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringkeeper::wire::{
    next_frame, AddWatch, AuthPacket, CheckVersion, ConnectRequest, Create, Delete, Frame, GetAcl,
    MultiReader, OpCode, PathAndType, PathAndWatch, Reconfig, RequestHeader, SetAcl, SetData, SetWatches,
};

/// Decodes, encodes, decodes again and compares.
macro_rules! round_trip {
    ($record:ident, $body:expr $(, $op:expr)?) => {
        if let Ok(record) = $record::decode($($op,)? $body) {
            let mut bytes = Vec::new();
            record.encode($($op,)? &mut bytes);
            let again = $record::decode($($op,)? &bytes).expect("our own bytes are a record");
            assert_eq!(again, record);
        }
    };
}

fuzz_target!(|data: &[u8]| {
    let _ = ConnectRequest::decode(data);
    let mut rest = data;
    while let Frame::Whole(frame) = next_frame(rest, 1 << 20) {
        rest = &rest[4 + frame.len()..];
        let Ok((header, body)) = RequestHeader::decode(frame) else { continue };
        let Some(op) = OpCode::from_i32(header.op) else { continue };
        match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                round_trip!(Create, body, op);
            }
            OpCode::Delete => round_trip!(Delete, body),
            OpCode::Exists | OpCode::GetData | OpCode::GetChildren | OpCode::GetChildren2 => {
                round_trip!(PathAndWatch, body);
            }
            OpCode::SetData => round_trip!(SetData, body),
            OpCode::GetAcl => round_trip!(GetAcl, body),
            OpCode::SetAcl => round_trip!(SetAcl, body),
            OpCode::Reconfig => round_trip!(Reconfig, body),
            OpCode::Auth => round_trip!(AuthPacket, body),
            OpCode::SetWatches | OpCode::SetWatches2 => {
                if let Ok(watches) = SetWatches::decode(op, body) {
                    let mut bytes = Vec::new();
                    watches.encode(op, &mut bytes);
                    SetWatches::decode(op, &bytes).expect("our own bytes are a record");
                }
            }
            OpCode::Multi | OpCode::MultiRead => {
                let mut items = MultiReader::new(op, body);
                // Each item takes bytes, so this ends.
                while let Ok(Some(_)) = items.next_item() {}
            }
            _ => {
                let _ = AddWatch::decode(body);
                let _ = CheckVersion::decode(body);
                let _ = PathAndType::decode(body);
            }
        }
    }
});
