//! The compatibility traps TR01 to TR43, each by its name, on a whole server in one thread. A trap is a place where a
//! server that looks right breaks a real client.

#[path = "../machines/mod.rs"]
mod machines;

mod config;
mod rules;
mod sessions;
mod watches;
mod wire;

use machines::{Conn, World};
use ringkeeper::wire::OpCode;

const NO_NODE: i32 = -101;
const NO_AUTH: i32 = -102;
const BAD_VERSION: i32 = -103;
const NODE_EXISTS: i32 = -110;
const BAD_ARGUMENTS: i32 = -8;

/// Asks and gives the error alone.
#[track_caller]
fn err(world: &mut World, conn: Conn, op: OpCode, body: &[u8]) -> i32 {
    world.ask(conn, op, body).err
}
