//! The tenant directory: from a tenant's name to its actor, and what is known of tenants that have none.
//!
//! Workers read it directly. The registry writes it, but for one step: whoever finds a tenant that is not in memory gives it
//! a mailbox at once, so that its call waits in there while the registry has the tenant read.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::Addr;
use actix::dev::channel::{AddressReceiver, channel};
use dashmap::DashMap;
use foldhash::fast::RandomState;
use kavach_store::CatalogRow;

use super::mailbox::MAILBOX_CAPACITY;
use super::tenant::TenantActor;
use super::worker_channels::ChannelId;
use crate::domain::text::{Slug, quote};
use crate::domain::{Code, Error, TenantId, TenantRef, TenantTag};
use crate::measure::TenantMeasures;

/// A tenant's names. They lead to the tenant, whether it is in memory or not.
#[derive(Clone, Debug)]
pub struct Route {
    /// The tenant's id.
    pub id: TenantId,
    /// The tenant's slug; the default tenant has none.
    pub slug: Option<Slug>,
}

impl Route {
    /// Whether the name is this tenant's.
    pub fn is_named(&self, name: &TenantRef) -> bool {
        match name {
            TenantRef::Default => self.id.is_default(),
            TenantRef::Id(id) => *id == self.id,
            TenantRef::Slug(slug) => self.slug.as_ref().is_some_and(|own| own.as_str() == &**slug),
            TenantRef::Impossible => false,
        }
    }
}

/// One tenant's entry.
#[derive(Debug)]
struct Entry {
    route: Route,
    /// Whether this server has ever read its events: then its slug is proven, not just claimed by the label.
    proven: bool,
    presence: Presence,
    /// The newest row about it that is in the catalog, or on its way there.
    row: Option<Arc<[u8]>>,
    /// Whether nothing has happened in the tenant since.
    row_is_current: bool,
}

/// Where a tenant is.
#[derive(Clone, Debug)]
pub enum Presence {
    /// On disk only.
    Idle,
    /// On its way from memory to disk.
    Leaving,
    /// In memory, or being read: calls go to its mailbox.
    Resident(Arc<Resident>),
    /// It can't be served.
    Down(Arc<Down>),
}

/// A tenant in memory.
#[derive(Debug)]
pub struct Resident {
    /// Where to send messages. Whoever keeps a clone for long keeps the tenant in memory: it leaves once nobody has one. We
    /// never copy the address itself: each copy may put one message past the mailbox's limit.
    pub mailbox: Arc<Addr<TenantActor>>,
    /// Counts the actors that this server has had, so that news of an old one is not taken for news of a new one.
    pub generation: u64,
    /// The worker that the actor lives on, if it is a server's.
    pub channel: Option<ChannelId>,
    /// What is measured about the tenant while it is in memory.
    pub measures: Arc<TenantMeasures>,
}

/// Why a tenant can't be served.
#[derive(Clone, Debug)]
pub struct Down {
    /// The code callers get.
    pub code: Code,
    /// The sentence they get.
    pub reason: String,
}

impl Down {
    /// The error callers get.
    pub fn error(&self) -> Error {
        Error::new(self.code, self.reason.clone())
    }

    /// Whether the tenant is being erased: it is gone, except that its id and slug are still taken.
    fn is_erasure(&self) -> bool {
        self.code == Code::TenantNotFound
    }
}

/// The receiving end of a new mailbox.
pub struct Seat {
    pub(super) resident: Arc<Resident>,
    pub(super) receiver: AddressReceiver<TenantActor>,
    /// The tenant's newest row that is in the catalog, or on its way there.
    pub(super) row: Option<Arc<[u8]>>,
}

/// What is known of a tenant without asking it.
#[derive(Debug)]
pub struct KnownTenant {
    /// Its names.
    pub route: Route,
    /// Where it is.
    pub presence: Presence,
    /// Its newest row.
    row: Option<Arc<[u8]>>,
    /// Whether that holds: the tenant is not in memory, and nothing has happened in it since.
    row_is_current: bool,
}

impl KnownTenant {
    /// Its row, if that holds.
    pub fn row(&self) -> Option<CatalogRow> {
        self.last_row().filter(|_| self.row_is_current)
    }

    /// Its newest row, which may tell of an earlier time.
    pub fn last_row(&self) -> Option<CatalogRow> {
        CatalogRow::decode(self.route.id, self.row.as_deref()?).ok()
    }

    /// Whether it is being erased.
    pub fn is_being_erased(&self) -> bool {
        matches!(&self.presence, Presence::Down(down) if down.is_erasure())
    }
}

/// All tenants by tag and by slug, and the folders that no name leads to.
#[derive(Default)]
pub struct TenantDirectory {
    by_tag: DashMap<TenantTag, Entry, RandomState>,
    by_slug: DashMap<Slug, TenantTag, RandomState>,
    refused: DashMap<String, String, RandomState>,
    /// Tenants that can't be served.
    down: Mutex<BTreeSet<TenantId>>,
    next_generation: AtomicU64,
}

impl TenantDirectory {
    /// The names of the tenant that ids with this tag belong to.
    pub fn route(&self, tag: TenantTag) -> Option<Route> {
        self.by_tag.get(&tag).map(|entry| entry.route.clone())
    }

    /// The names of the tenant, unless it is being erased.
    pub fn living(&self, id: TenantId) -> Option<Route> {
        let entry = self.by_tag.get(&id.tag()).filter(|entry| entry.route.id == id)?;
        let is_erased = matches!(&entry.presence, Presence::Down(down) if down.is_erasure());
        (!is_erased).then(|| entry.route.clone())
    }

    /// Calls `f` with the place of a tenant; `None` if there is no such tenant. `f` must not wait: the entry is locked
    /// against writers while it runs.
    pub fn with_presence<R>(&self, id: TenantId, f: impl FnOnce(&Presence) -> R) -> Option<R> {
        self.by_tag.get(&id.tag()).filter(|entry| entry.route.id == id).map(|entry| f(&entry.presence))
    }

    /// The tenant's actor, if it is in memory.
    pub fn resident(&self, id: TenantId) -> Option<Arc<Resident>> {
        self.with_presence(id, |presence| match presence {
            Presence::Resident(resident) => Some(Arc::clone(resident)),
            Presence::Idle | Presence::Leaving | Presence::Down(_) => None,
        })?
    }

    /// The tenant of that name.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`.
    pub fn find(&self, name: &TenantRef) -> Result<Route, Error> {
        let tag = match name {
            TenantRef::Default => Some(TenantTag::default()),
            TenantRef::Id(id) => Some(id.tag()),
            TenantRef::Slug(slug) => Slug::parse("slug", slug).ok().and_then(|slug| Some(*self.by_slug.get(&slug)?)),
            TenantRef::Impossible => None,
        };
        tag.and_then(|tag| self.route(tag))
            .filter(|route| !matches!(name, TenantRef::Id(id) if *id != route.id))
            .ok_or_else(|| unknown_tenant(name))
    }

    /// The ids of all tenants, in order, including the default one. They may be a million.
    pub fn ids(&self) -> Vec<TenantId> {
        let mut all: Vec<_> = self.by_tag.iter().map(|entry| entry.route.id).collect();
        all.sort_unstable();
        all
    }

    /// How many tenants there are.
    pub fn count(&self) -> usize {
        self.by_tag.len()
    }

    /// What is known of a tenant.
    pub fn known(&self, id: TenantId) -> Option<KnownTenant> {
        self.by_tag.get(&id.tag()).filter(|entry| entry.route.id == id).map(|entry| entry.known())
    }

    /// Calls `f` with what is known of each tenant, in order of their ids. With a million tenants it takes a second.
    pub fn each(&self, f: impl FnMut(KnownTenant)) {
        // No entry is locked while `f` runs.
        self.ids().into_iter().filter_map(|id| self.known(id)).for_each(f);
    }

    /// All rows, in no order.
    pub(super) fn rows(&self) -> Vec<(TenantId, Arc<[u8]>)> {
        self.by_tag.iter().filter_map(|entry| Some((entry.route.id, Arc::clone(entry.row.as_ref()?)))).collect()
    }

    /// The tenants that can't be served, each with the reason, without those that are being erased.
    pub fn unavailable(&self) -> Vec<(TenantId, Arc<Down>)> {
        let down = self.lock_down().clone();
        let reason = |id: TenantId| {
            self.with_presence(id, |presence| match presence {
                Presence::Down(down) if !down.is_erasure() => Some(Arc::clone(down)),
                _ => None,
            })?
        };
        down.into_iter().filter_map(|id| Some((id, reason(id)?))).collect()
    }

    fn lock_down(&self) -> MutexGuard<'_, BTreeSet<TenantId>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a tenant with this tag.
    pub fn has_tag(&self, tag: TenantTag) -> bool {
        self.by_tag.contains_key(&tag)
    }

    /// Whether there is a tenant with this slug.
    pub fn has_slug(&self, slug: &Slug) -> bool {
        self.by_slug.contains_key(slug)
    }

    /// Why a loaded tenant can't be routed to: another has its slug or its tag.
    pub(super) fn conflict(&self, id: TenantId, slug: Option<&Slug>) -> Option<String> {
        if let Some(other) = self.route(id.tag()).filter(|other| other.id != id) {
            return Some(format!("its id ends as that of tenant {} does", other.id));
        }
        let other = self.holder(slug?).filter(|tag| *tag != id.tag())?;
        let other = self.by_tag.get(&other).filter(|entry| entry.proven)?;
        Some(format!("its slug is also that of tenant {}", other.route.id))
    }

    fn holder(&self, slug: &Slug) -> Option<TenantTag> {
        self.by_slug.get(slug).map(|tag| *tag)
    }

    /// A mailbox for a tenant's next actor, on that worker.
    fn seat(&self, channel_id: Option<ChannelId>, measures: Option<Arc<TenantMeasures>>) -> Seat {
        let (sender, receiver) = channel(MAILBOX_CAPACITY);
        let generation = self.next_generation.fetch_add(1, Ordering::Relaxed) + 1;
        let mailbox = Arc::new(Addr::new(sender));
        let measures = measures.unwrap_or_else(|| Arc::new(TenantMeasures::of(generation)));
        Seat {
            resident: Arc::new(Resident { mailbox, generation, channel: channel_id, measures }),
            receiver,
            row: None,
        }
    }

    /// Gives a tenant a mailbox if it has none, and returns the end that its actor will read. `None` if it is in memory, or
    /// can't be.
    pub(super) fn wake(&self, id: TenantId, channel: Option<ChannelId>) -> Option<Seat> {
        let mut entry = self.by_tag.get_mut(&id.tag()).filter(|entry| entry.route.id == id)?;
        if !matches!(entry.presence, Presence::Idle | Presence::Leaving) {
            return None;
        }
        let seat = Seat { row: entry.row.clone(), ..self.seat(channel, None) };
        entry.presence = Presence::Resident(Arc::clone(&seat.resident));
        entry.row_is_current = false;
        Some(seat)
    }

    /// Makes a loaded tenant known, with a mailbox for its actor. One that was in memory before keeps its measures.
    pub(super) fn admit(
        &self,
        route: Route,
        channel: Option<ChannelId>,
        measures: Option<Arc<TenantMeasures>>,
    ) -> Seat {
        let seat = self.seat(channel, measures);
        self.place(route, true, Presence::Resident(Arc::clone(&seat.resident)));
        seat
    }

    /// Takes a tenant's actor from the directory, so that it can end; `None` if it has none.
    pub(super) fn begin_leaving(&self, id: TenantId) -> Option<Arc<Resident>> {
        let mut entry = self.by_tag.get_mut(&id.tag()).filter(|entry| entry.route.id == id)?;
        let Presence::Resident(resident) = &entry.presence else { return None };
        let resident = Arc::clone(resident);
        entry.presence = Presence::Leaving;
        Some(resident)
    }

    /// The tenant's actor has ended. Without a row nobody knows what has happened in it since its last one.
    pub(super) fn left(&self, id: TenantId, row: Option<Arc<[u8]>>) {
        if let Some(mut entry) = self.by_tag.get_mut(&id.tag()).filter(|entry| entry.route.id == id) {
            let is_idle = matches!(entry.presence, Presence::Leaving);
            if is_idle {
                entry.presence = Presence::Idle;
            }
            if row.is_some() {
                entry.row_is_current = is_idle;
                entry.row = row;
            }
        }
    }

    /// A row about a tenant is in the catalog.
    pub(super) fn note_row(&self, id: TenantId, row: Arc<[u8]>) {
        if let Some(mut entry) = self.by_tag.get_mut(&id.tag()).filter(|entry| entry.route.id == id) {
            // A row of an idle tenant is the last.
            if !entry.row_is_current {
                entry.row = Some(row);
            }
        }
    }

    /// Makes a tenant known that is not in memory. `is_current` is whether the row holds.
    pub(super) fn add_idle(&self, route: Route, row: Arc<[u8]>, is_current: bool) {
        let id = route.id;
        self.place(route, true, Presence::Idle);
        if let Some(mut entry) = self.by_tag.get_mut(&id.tag()).filter(|entry| entry.route.id == id) {
            entry.row = Some(row);
            entry.row_is_current = is_current;
        }
    }

    /// Keeps a tenant's id and slug taken while it can't be served. Returns a number that is this entry's alone.
    pub(super) fn mark_down(&self, route: Route, down: Down) -> DownMark {
        let proven = self.by_tag.get(&route.id.tag()).is_some_and(|entry| entry.proven);
        let (id, down) = (route.id, Arc::new(down));
        let measures = self.resident(id).map(|resident| Arc::clone(&resident.measures));
        self.place(route, proven, Presence::Down(Arc::clone(&down)));
        self.lock_down().insert(id);
        DownMark { id, down, measures }
    }

    /// Whether a tenant is still down for that reason.
    pub(super) fn is_still_down(&self, mark: &DownMark) -> bool {
        let is_it = |presence: &Presence| matches!(presence, Presence::Down(down) if Arc::ptr_eq(down, &mark.down));
        self.with_presence(mark.id, is_it).unwrap_or(false)
    }

    /// Adds a tenant, or replaces its entry. If somebody copied folders by hand, two tenants may claim one slug. The
    /// entry has the slug only if it belongs to this tenant, so that changes of the entry never affect the other.
    /// Events overrule labels.
    fn place(&self, mut route: Route, proven: bool, presence: Presence) {
        let tag = route.id.tag();
        if let Some(slug) = route.slug.clone() {
            let other = self.holder(&slug).filter(|other| *other != tag);
            let other_is_proven = other.and_then(|other| self.by_tag.get(&other).map(|entry| entry.proven));
            match (other, other_is_proven) {
                (Some(other), Some(false)) if proven => {
                    if let Some(mut entry) = self.by_tag.get_mut(&other) {
                        entry.route.slug = None;
                    }
                    self.by_slug.insert(slug, tag);
                }
                (Some(_), Some(_)) => route.slug = None,
                _ => {
                    self.by_slug.insert(slug, tag);
                }
            }
        }
        let is_down = matches!(presence, Presence::Down(_));
        let id = route.id;
        match self.by_tag.get_mut(&tag) {
            Some(mut entry) => {
                let row = entry.row.take().filter(|_| entry.route.id == id);
                *entry = Entry { route, proven, presence, row, row_is_current: false };
            }
            None => {
                let entry = Entry { route, proven, presence, row: None, row_is_current: false };
                self.by_tag.insert(tag, entry);
            }
        }
        if !is_down {
            self.lock_down().remove(&id);
        }
    }

    /// Remembers a folder that is not served and not named after a tenant, and why.
    pub(super) fn refuse(&self, folder: String, reason: String) {
        self.refused.insert(folder, reason);
    }

    /// The folders that are not served and not named after a tenant, with the reasons, by name.
    pub fn refused(&self) -> Vec<(String, String)> {
        let mut refused: Vec<_> =
            self.refused.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect();
        refused.sort();
        refused
    }

    pub(super) fn remove(&self, id: TenantId) {
        self.lock_down().remove(&id);
        if let Some((_, Entry { route: Route { slug: Some(slug), .. }, .. })) = self.by_tag.remove(&id.tag()) {
            self.by_slug.remove_if(&slug, |_, tag| *tag == id.tag());
        }
    }
}

/// A tenant that was marked as down, and the reason.
#[derive(Clone, Debug)]
pub(super) struct DownMark {
    pub id: TenantId,
    down: Arc<Down>,
    /// Those of its last actor.
    pub measures: Option<Arc<TenantMeasures>>,
}

impl Entry {
    fn known(&self) -> KnownTenant {
        let Self { route, presence, row, row_is_current, .. } = self;
        let (route, presence, row) = (route.clone(), presence.clone(), row.clone());
        KnownTenant { route, presence, row, row_is_current: *row_is_current }
    }
}

/// The error for a tenant that doesn't exist or isn't the caller's.
pub fn unknown_tenant(name: &TenantRef) -> Error {
    let shown = match name {
        TenantRef::Default => "default".to_owned(),
        TenantRef::Id(id) => id.to_string(),
        TenantRef::Slug(slug) => quote(slug),
        TenantRef::Impossible => return Error::new(Code::TenantNotFound, "tenant not found: none has that name"),
    };
    Error::new(Code::TenantNotFound, format!("tenant '{shown}' not found"))
}
