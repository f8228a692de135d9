//! Trouble for a round's storage, besides the round's end.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;

use crate::harness::{Server, eventually};
use crate::places::Frozen;
use crate::storage::limit_files;

pub trait Trouble {
    /// In the middle of the load.
    fn strike(&mut self, rng: &mut Rng, server: &Server);
    /// After the end.
    fn pass(&mut self, server: &mut Server);
}

pub struct Nothing;

impl Trouble for Nothing {
    fn strike(&mut self, _: &mut Rng, _: &Server) {}
    fn pass(&mut self, _: &mut Server) {}
}

/// Begins it, and ends it after a while or after the server's end.
fn befall(rng: &mut Rng, server: &Server, begin: impl FnOnce(), end: impl FnOnce()) {
    begin();
    std::thread::sleep(Duration::from_micros(rng.u64(0..400_000)));
    if rng.bool() {
        end();
        if rng.bool() {
            // Every tenant comes back by itself.
            let operator = server.operator();
            eventually("service resumes", || {
                let ready = operator.get("/readyz").json();
                (ready["storage"] == "ok" && ready["unavailableTenants"] == serde_json::json!([])).then_some(())
            });
        }
    }
}

/// A file takes all the space there is.
pub struct FullDisk(pub PathBuf);

impl Trouble for FullDisk {
    fn strike(&mut self, rng: &mut Rng, server: &Server) {
        let fill = || {
            let mut ballast = File::create(&self.0).unwrap();
            for block in [1 << 20, 1 << 10, 1] {
                while ballast.write_all(&vec![0; block]).is_ok() {}
            }
        };
        befall(rng, server, fill, || std::fs::remove_file(&self.0).unwrap());
    }

    fn pass(&mut self, server: &mut Server) {
        if self.0.exists() {
            // It starts, or says why not.
            match server.try_start_again() {
                Ok(()) => server.kill(),
                Err(said) => check_refusal(server, &said),
            }
            std::fs::remove_file(&self.0).unwrap();
        }
    }
}

/// No file can grow.
pub struct Limit;

impl Trouble for Limit {
    fn strike(&mut self, rng: &mut Rng, server: &Server) {
        befall(rng, server, || limit_files(server, Some(0)), || limit_files(server, None));
    }

    fn pass(&mut self, _: &mut Server) {}
}

/// Nothing in the data directory can be written.
pub struct Freeze(pub Frozen);

impl Trouble for Freeze {
    fn strike(&mut self, rng: &mut Rng, server: &Server) {
        befall(rng, server, || self.0.freeze(), || self.0.thaw());
    }

    fn pass(&mut self, server: &mut Server) {
        // Whether it still is read-only, the server says.
        if let Err(said) = server.try_start_again() {
            check_refusal(server, &said);
        } else {
            server.kill();
        }
        self.0.thaw();
    }
}

/// A server that doesn't start says which directory can't be written, and doesn't panic.
fn check_refusal(server: &Server, said: &str) {
    let sentence = said.lines().find(|line| line.starts_with("kavach: ")).unwrap_or_else(|| panic!("{said}"));
    assert!(sentence.contains(server.data_dir().to_str().unwrap()), "{sentence}");
    assert!(!said.contains("panicked"), "{said}");
}
