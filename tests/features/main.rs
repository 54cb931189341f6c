//! Rows of the feature inventory that no trap covers, on a whole server in one thread. `tests/ROWS.md` says which.

#[path = "../machines/mod.rs"]
mod machines;

mod multi;
mod permissions;
mod sessions;
mod tree;
mod watches;
mod wire;

use machines::{Conn, World};
use ringkeeper::wire::OpCode;

const NO_NODE: i32 = -101;
const NO_AUTH: i32 = -102;

/// Asks and gives the error alone.
#[track_caller]
fn err(world: &mut World, conn: Conn, op: OpCode, body: &[u8]) -> i32 {
    world.ask(conn, op, body).err
}
