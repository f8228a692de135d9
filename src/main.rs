//! The `kavach` program: reads the command line and carries it out.

use std::process::ExitCode;

use kavach::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(Cli::read().into_command())
}
