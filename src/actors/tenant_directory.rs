//! The route table: from a tenant's name to its actor. Workers read it directly, the registry alone writes it.

use std::sync::Arc;

use actix::Addr;
use dashmap::DashMap;
use foldhash::fast::RandomState;

use super::tenant::TenantActor;
use super::worker_channels::ChannelId;
use crate::domain::text::{Slug, quote};
use crate::domain::{Code, Error, TenantId, TenantRef, TenantTag};
use crate::measure::TenantMeasures;

/// One tenant's entry.
#[derive(Clone)]
pub struct Route {
    /// The tenant's id.
    pub id: TenantId,
    /// The tenant's slug; the default tenant has none.
    pub slug: Option<Slug>,
    /// Whether this server has ever read its events: then its slug is proven, not just claimed by the label.
    pub(super) proven: bool,
    /// Counts the actors that this tenant has had, so that news of an old one is not taken for news of the new one.
    pub(super) generation: u64,
    /// Where to send messages, or why it is down. We never copy the address itself: each copy may put one message past
    /// the mailbox's limit, and a limit that grows with its callers is none.
    pub actor: Result<Arc<Addr<TenantActor>>, Down>,
    /// The worker that the actor lives on, if it is a server's.
    pub(crate) channel: Option<ChannelId>,
    /// The tenant's measures, which its actors share.
    pub(crate) measures: Arc<TenantMeasures>,
}

impl Route {
    /// Whether it is being erased: it is gone, except that its id and slug are still taken.
    pub fn is_being_erased(&self) -> bool {
        matches!(&self.actor, Err(down) if down.code == Code::TenantNotFound)
    }

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

/// Why a tenant has no actor.
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
}

/// All tenants by tag and by slug, and the folders that no name leads to.
#[derive(Default)]
pub struct TenantDirectory {
    by_tag: DashMap<TenantTag, Route, RandomState>,
    by_slug: DashMap<Slug, TenantTag, RandomState>,
    refused: DashMap<String, String, RandomState>,
}

impl TenantDirectory {
    /// Calls `f` with the entry of the tenant that ids with this tag belong to. `f` must not wait: the entry is
    /// locked against the registry while it runs.
    pub fn with<R>(&self, tag: TenantTag, f: impl FnOnce(&Route) -> R) -> Option<R> {
        self.by_tag.get(&tag).map(|route| f(&route))
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
        tag.and_then(|tag| self.with(tag, Route::clone))
            .filter(|route| !matches!(name, TenantRef::Id(id) if *id != route.id))
            .ok_or_else(|| unknown_tenant(name))
    }

    /// All entries, including the default tenant's, in order of their ids.
    pub fn all(&self) -> Vec<Route> {
        self.all_that(|_| true)
    }

    /// The entries that `wanted` accepts, in order of their ids.
    pub fn all_that(&self, wanted: impl Fn(&Route) -> bool) -> Vec<Route> {
        let mut all: Vec<_> = self.by_tag.iter().filter(|route| wanted(route)).map(|route| route.clone()).collect();
        all.sort_by_key(|route| route.id);
        all
    }

    /// Whether there is a tenant with this tag.
    pub fn has_tag(&self, tag: TenantTag) -> bool {
        self.by_tag.contains_key(&tag)
    }

    /// The tenant's measures so far.
    pub(super) fn measures(&self, id: TenantId) -> Arc<TenantMeasures> {
        let known = self.with(id.tag(), |route| (route.id == id).then(|| Arc::clone(&route.measures)));
        known.flatten().unwrap_or_default()
    }

    /// Why a loaded tenant can't be routed to: another has its slug or its tag.
    pub(super) fn conflict(&self, id: TenantId, slug: Option<&Slug>) -> Option<String> {
        if let Some(other) = self.with(id.tag(), |route| route.id).filter(|other| *other != id) {
            return Some(format!("its id ends as that of tenant {other} does"));
        }
        let other = self.holder(slug?).filter(|tag| *tag != id.tag())?;
        let other = self.with(other, |route| route.proven.then_some(route.id)).flatten()?;
        Some(format!("its slug is also that of tenant {other}"))
    }

    fn holder(&self, slug: &Slug) -> Option<TenantTag> {
        self.by_slug.get(slug).map(|tag| *tag)
    }

    /// Whether there is a tenant with this slug.
    pub fn has_slug(&self, slug: &Slug) -> bool {
        self.by_slug.contains_key(slug)
    }

    /// Adds a tenant, or replaces its entry. If somebody copied folders by hand, two tenants may claim one slug. The
    /// entry has the slug only if it belongs to this tenant, so that changes of the entry never affect the other.
    /// Events overrule labels.
    pub(super) fn insert(&self, mut route: Route) {
        let tag = route.id.tag();
        if let Some(slug) = route.slug.clone() {
            let other = self.holder(&slug).filter(|other| *other != tag);
            let other_is_proven = other.and_then(|other| self.with(other, |route| route.proven));
            match (other, other_is_proven) {
                (Some(other), Some(false)) if route.proven => {
                    if let Some(mut entry) = self.by_tag.get_mut(&other) {
                        entry.slug = None;
                    }
                    self.by_slug.insert(slug, tag);
                }
                (Some(_), Some(_)) => route.slug = None,
                _ => {
                    self.by_slug.insert(slug, tag);
                }
            }
        }
        self.by_tag.insert(tag, route);
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
        if let Some((_, Route { slug: Some(slug), .. })) = self.by_tag.remove(&id.tag()) {
            self.by_slug.remove_if(&slug, |_, tag| *tag == id.tag());
        }
    }
}

/// The error for a tenant that doesn't exist or isn't the caller's.
pub fn unknown_tenant(name: &TenantRef) -> Error {
    let shown = match name {
        TenantRef::Default => "default".to_owned(),
        TenantRef::Id(id) => id.to_string(),
        TenantRef::Slug(slug) => quote(slug),
        TenantRef::Impossible => return Error::new(Code::TenantNotFound, "no tenant has that name"),
    };
    Error::new(Code::TenantNotFound, format!("there is no tenant '{shown}'"))
}
