//! The `kavach` program: reads the command line and carries it out.

use std::process::ExitCode;

use clap::Parser as _;
use kavach::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(Cli::parse().into_command())
}
