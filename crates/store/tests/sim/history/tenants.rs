//! Tenants are created and erased.

use std::sync::Arc;

use kavach_domain::author::By;
use kavach_domain::event::ChangeRecord;
use kavach_domain::tenant::commands::{NewTenant, TenantSpec};
use kavach_domain::{Event, TenantId};
use kavach_journal::Tail;
use kavach_store::{CommitPipeline, loader};

use super::History;
use super::member::{Member, Outcomes, Part};
use crate::disk::Stop;
use crate::model::Model;

impl History {
    /// A new tenant.
    pub(super) fn create(&mut self) {
        let id = TenantId::generate(self.now(), [self.members.len() as u8 + 1; 10]).unwrap();
        let slug = format!("tenant-{}", self.members.len());
        let new = NewTenant { name: "Acme".to_owned(), slug, settings: None };
        let spec = TenantSpec::parse(new).unwrap();
        let mut model = Model::default();
        let event = Event::Changed(ChangeRecord::new(By::Operator, spec.clone().created(id)));
        let moment = kavach_domain::Tenant::default().next_moment(self.now());
        model.record(moment, &event);
        model.all_synced();
        loop {
            let data = self.data.as_ref().unwrap();
            match loader::create(data, id, spec.clone(), None, self.now(), self.options) {
                Ok(loaded) => {
                    let queue = self.queue.as_mut().unwrap();
                    let pipeline = CommitPipeline::new(loaded, self.durability, false, queue);
                    self.members.push(Member {
                        id,
                        model,
                        outcomes: Outcomes::default(),
                        part: Part::Up(Box::new(pipeline)),
                        jobs: Vec::new(),
                        generation: 0,
                        folding: false,
                        copies: Vec::new(),
                        retention_running: false,
                        losses: self.disk.losses(),
                        row: None,
                        row_seq: 0,
                        row_lost: Arc::default(),
                        loaded: 1,
                        written: 0,
                        in_log: 0,
                        has_row: false,
                    });
                    return self.say(|| format!("tenant {} is made", id.folder_name()));
                }
                Err(problem) => {
                    self.say(|| format!("a tenant could not be made: {problem:?}"));
                    let was_down = self.disk.is_down();
                    if was_down || self.rng.bool() {
                        let stop = if self.rng.bool() { Stop::Power } else { Stop::Kill };
                        self.stop(stop, false);
                    }
                    // All of it or nothing.
                    if let Ok(folder) = self.disk.calmly(|| self.data.as_ref().unwrap().folder(&id.folder_name())) {
                        self.say(|| "but it is there".to_owned());
                        assert!(problem.may_have_happened || was_down, "it is there, and was said not to be");
                        let loaded = self
                            .disk
                            .calmly(|| loader::load(&folder, &Tail::default(), id, self.now(), self.options))
                            .map(|loaded| loaded.tenant.seq());
                        assert_eq!(loaded.map_err(|error| error.problem), Ok(1), "half a tenant");
                        self.disk.calmly(|| self.data.as_ref().unwrap().erase_tenant(&id.folder_name())).unwrap();
                    }
                }
            }
        }
    }

    /// Erases the only tenant, with as many attempts as it takes.
    pub(super) fn erase(&mut self) {
        let id = self.members.pop().unwrap().id;
        let name = id.folder_name();
        // Until a start has synced the directory, an earlier attempt may still show after a power failure.
        let mut is_unknown = false;
        loop {
            if self.rng.u32(0..4) == 0 {
                self.disk.stop_in(Some(self.rng.u64(1..8)));
            }
            let erased = self.data.as_ref().unwrap().erase_tenant(&name);
            self.say(|| format!("erased: {erased:?}"));
            let was_down = self.disk.is_down();
            is_unknown |= was_down || erased.as_ref().is_err_and(|problem| problem.may_have_happened);
            let stops = was_down || self.rng.bool();
            if stops {
                let stop = if self.rng.bool() { Stop::Power } else { Stop::Kill };
                self.stop(stop, false);
            }
            let folder = self.disk.calmly(|| self.data.as_ref().unwrap().folder(&name));
            assert!(is_unknown || folder.is_ok() == erased.is_err(), "{erased:?}, and is it there: {}", folder.is_ok());
            let Ok(folder) = folder else { return };
            is_unknown &= !stops;
            assert!(erased.is_err(), "it is there again");
            let loaded = self.disk.calmly(|| loader::load(&folder, &Tail::default(), id, self.now(), self.options));
            assert_eq!(loaded.map_err(|error| error.problem).unwrap().tenant.seq(), 1, "half a tenant");
        }
    }
}
