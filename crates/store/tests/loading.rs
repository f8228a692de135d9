//! Which folders a tenant loads from, and which keep it down.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends by a panic that says what was wrong")]

use std::fs;
use std::path::{Path, PathBuf};

use std::sync::Arc;

use kavach_domain::permission::rate_window::RateWindow;
use kavach_domain::tenant::State;
use kavach_domain::{Tenant, Timestamp};
use kavach_fixture::small_tenant::{Small, tenant_id};
use kavach_journal::{DataDir, Folder, JournalOptions, NewFolder, Tail};
use kavach_store::codec;
use kavach_store::loader::load;

/// A folder with these events, and optionally a snapshot of a state at one of them.
fn folder(root: &Path, events: &[Vec<u8>], snapshot: Option<(u64, &Tenant)>) -> PathBuf {
    let data = DataDir::open(root).unwrap();
    let new = NewFolder {
        name: "t",
        label: b"{}",
        tenant: tenant_id().bytes(),
        now_ms: 1,
        events: &events[..1],
        options: JournalOptions::default(),
    };
    let mut journal = data.create_tenant(new).unwrap();
    let mut write = |upto: usize| {
        while (journal.next_seq() as usize) <= upto {
            let next = &events[journal.next_seq() as usize - 1];
            journal.append(journal.next_seq(), |buffer| buffer.extend_from_slice(next)).unwrap();
        }
        journal.flush().unwrap();
        journal.begin_snapshot(journal.written_seq())
    };
    if let Some((seq, tenant)) = snapshot {
        write(seq as usize).run(|file| codec::write_state(&tenant.state(), file)).unwrap();
    }
    drop(write(events.len()));
    journal.close(2).unwrap();
    data.path().join("t")
}

fn loaded(path: &Path) -> Result<Tenant, String> {
    let folder = Folder::open(path).unwrap();
    let loaded = load(&folder, &Tail::default(), tenant_id(), Timestamp::default(), JournalOptions::default());
    loaded.map(|loaded| loaded.tenant).map_err(|error| error.problem)
}

/// Without a single event, nothing shows that there was one, so the rest looks like a torn tail.
#[test]
fn a_folder_without_an_event_is_refused_unchanged() {
    let small = Small::new();
    let dir = tempfile::tempdir().unwrap();
    let path = folder(dir.path(), &small.journal, None);
    let file = path.join("00000000000000000001.journal");
    let whole = fs::read(&file).unwrap();
    let mut refused = 0;
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        if loaded(&path).is_err() {
            refused += 1;
            assert_eq!(fs::read(&file).unwrap(), &whole[..length], "{length} bytes");
        }
    }
    assert!(refused > 64, "without a whole event it has no owner: {refused}");
}

#[test]
fn a_forged_state_or_event_keeps_the_tenant_down() {
    let small = Small::new();
    let last = small.journal.len() as u64;
    let root = || tempfile::tempdir().unwrap();
    let dir = root();
    let path = folder(dir.path(), &small.journal, Some((last, &small.tenant)));
    assert_eq!(loaded(&path).unwrap().state(), small.tenant.state());
    // A snapshot with the state of another event than its header says.
    let dir = root();
    let path = folder(dir.path(), &small.journal, Some((last - 1, &small.tenant)));
    assert!(loaded(&path).unwrap_err().contains(&format!("that of event {last}")));
    // An event earlier than the one before it.
    let dir = root();
    let mut events = small.journal.clone();
    events.swap(1, 2);
    assert!(loaded(&folder(dir.path(), &events, None)).unwrap_err().contains("time is before"));
    // A state that would send the search for a delegation round in circles.
    let dir = root();
    let mut state = small.tenant.state();
    std::sync::Arc::make_mut(&mut state.delegations[0].profile).spec.stands_on = vec![0];
    let path = folder(dir.path(), &small.journal, Some((last, &Tenant::restore(state))));
    assert!(loaded(&path).unwrap_err().contains("came after it"));
    assert!(fs::exists(path).unwrap());
}

#[test]
fn a_state_that_no_events_make_is_refused() {
    let small = Small::new();
    assert_eq!(small.tenant.validate(), Ok(()));
    type Forge = fn(&mut State);
    let forgeries: [(&str, Forge); 7] = [
        ("in the order", |state| state.delegations.swap(0, 1)),
        ("came after it", |state| {
            let place = state.delegations[1].place;
            Arc::make_mut(&mut state.delegations[1].profile).spec.stands_on = vec![place];
        }),
        ("came after it", |state| Arc::make_mut(&mut state.delegations[1].profile).spec.stands_on = vec![0]),
        ("came after it", |state| {
            let spec = &mut Arc::make_mut(&mut state.delegations[0].profile).spec;
            (spec.stands_on, spec.depth) = (vec![1], 2);
        }),
        ("a chain of", |state| Arc::make_mut(&mut state.delegations[0].profile).spec.depth = u32::MAX),
        ("two agents", |state| state.agents.push(state.agents[0].clone())),
        ("one window", |state| state.agents[0].windows.push(RateWindow::default())),
    ];
    for (what, forge) in forgeries {
        let mut state = small.tenant.state();
        forge(&mut state);
        let problem = Tenant::restore(state).validate().unwrap_err();
        assert!(problem.contains(what), "{what}: {problem}");
    }
}
