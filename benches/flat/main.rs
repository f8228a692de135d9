//! Costs of a call, an agent and a start that must not grow with the amount of data: a line for each claim, with its
//! figure and its goal. `cargo bench --bench flat -- memory` runs only the named parts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that can't be set up has to stop")]
#![allow(clippy::expect_used, clippy::print_stdout, reason = "it is a program for people")]

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod claim;
mod decide;
mod flood;
mod ids;
mod interleaved;
mod memory;
mod million;
mod neighbours;
mod probe;
mod served;
mod spend;
mod start;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--memory") {
        return memory::child(&args[1..]);
    }
    if let [flag, folder] = args.as_slice()
        && flag == "--serve"
    {
        return served::child(folder);
    }
    let parts: [(&str, fn()); 11] = [
        ("start", start::run),
        ("decide", decide::run),
        ("tenants", calls::tenants),
        ("agents", calls::agents),
        ("entries", calls::entries),
        ("spend", spend::run),
        ("flood", flood::run),
        ("neighbours", neighbours::run),
        ("ids", ids::run),
        ("memory", memory::run),
        ("million", million::run),
    ];
    let wanted: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| *wanted == name) {
            part();
        }
    }
}
