//! Flags in, exit code out.

use ringkeeper::config::{self, Command};
use ringkeeper::host;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let exit = match config::parse_args() {
        Command::Serve(args) => host::serve(&args),
        Command::Join(args) => host::serve_and_join(&args),
        Command::Leave { args, timeout_s } => host::tools::leave(&args, timeout_s),
        Command::Recover { from, log_dir, to } => host::tools::recover(&from, log_dir.as_deref(), &to),
        Command::Check(args) => host::tools::check(&args),
        Command::Inspect { kind, file } => host::tools::inspect(kind, &file),
        Command::Verify { dir, log_dir } => host::tools::verify(&dir, log_dir.as_deref()),
    };
    std::process::exit(exit);
}
