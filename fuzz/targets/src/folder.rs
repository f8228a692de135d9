//! A tenant's folder with arbitrary bytes, and the calls to a tenant loaded from one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::api::shown;
use kavach_domain::decision::explain::Steps;
use kavach_domain::tenant::Caller;
use kavach_domain::{Credential, Request, Secret, Tenant, Timestamp};
use kavach_journal::Folder;

/// A temporary folder, deleted when dropped. `TMPDIR` says where; in memory it is many times as fast.
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty folder.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("kavach-fuzz-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The folder in the journal's form.
    pub fn folder(&self) -> Folder {
        Folder::open(&self.0).unwrap()
    }

    /// Every file in it, with its bytes.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reads a little-endian number; zero if there are too few bytes.
pub fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    if let Some(part) = bytes.get(at..at + N) {
        wide[..N].copy_from_slice(part);
    }
    u64::from_le_bytes(wide)
}

/// Does what calls do: each list, and decisions about each agent.
pub fn use_it(tenant: &Tenant) {
    let now = tenant.next_moment(Timestamp::from_millis(1_767_960_000_000)).wall;
    shown(tenant, now);
    let _ = tenant.authenticate(&Credential::parse(Secret::operator_key([1; 32]).reveal()), now);
    let token = Secret::agent_token(tenant.id(), [1; 32]);
    let _ = tenant.authenticate(&Credential::parse(token.reveal()), now);
    for agent in tenant.agents().iter().take(20) {
        for (action, resource) in [("read", "mcp:filesystem:read"), ("export", "reports:2026:q1")] {
            let request = Request::new(action, resource).unwrap().for_agent(agent.profile.id);
            let request = request.with_arguments(r#"{"path":"/srv/x","n":[1,"abc"]}"#).unwrap();
            let moment = tenant.next_moment(now);
            let mut steps = Steps::default();
            let explained = tenant.decide(&Caller::Operator, &request, moment, &mut steps).answer(None);
            let decided = tenant.decide(&Caller::Operator, &request, moment, &mut ()).answer(None);
            assert_eq!(explained, decided);
        }
    }
}
