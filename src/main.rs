//! Flags in, exit code out.

use ringkeeper::config::{self, Command};
use ringkeeper::host;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let exit = match config::parse_args() {
        Command::Serve(args) => host::serve(&args),
        _ => 78,
    };
    std::process::exit(exit);
}
