//! The audit trail: queries, exports, live streams and checkpoints.
//!
//! A trail is a view of a tenant's journal. All reading happens on threads that serve no calls.
//!
//! | to find | look in |
//! | --- | --- |
//! | the calls themselves | here |
//! | who may read, and how reads share the disk and the cores | `reading` |
//! | look-ups in one tenant's journal | `trail` |
//! | a page of the newest entries of some tenants | `newest_first` |
//! | a trail from its oldest entry on | `oldest_first` |
//! | whole trails as JSON, NDJSON or CSV | `export`, `export_format` |
//! | what a slow client may hold, and for how long | `expiring` |
//! | entries as they are made | `live_stream` |
//! | where a stream that broke off can go on | `resume_points` |
//! | what a decision was settled at | `settled_costs` |
//! | what entries add up to, in groups | `spend` |

mod expiring;
mod export;
mod export_format;
mod live_stream;
mod newest_first;
mod oldest_first;
mod reading;
mod resume_points;
mod settled_costs;
mod spend;
mod trail;

use std::cmp::Reverse;
use std::sync::Arc;

use newest_first::{NewestIds, PageEntries, UnreadableTrails};
use reading::unreadable;

use super::kavach::Kavach;
use super::lists::{ASKED_AT_ONCE, Gathered, Page, Selection, bad_cursor};
use super::tenant_counts::off_thread;
use crate::actors::Route;
use crate::actors::messages::OpenAudit;
use crate::actors::messages::TakeCheckpoint;
use crate::domain::limits::DEFAULT_AUDIT_PAGE;
use crate::domain::text::quote;
use crate::domain::{
    AuditEntry, AuditFilter, AuditId, Code, Credential, Error, Event, Right, TenantId, TenantRef, Timestamp,
};
use crate::store::checkpoint::KeptCheckpoint;

pub use export::Export;
pub use export_format::{ExportFormat, guard_cell, write_line};
pub use live_stream::{AuditStream, KEEP_ALIVE, StreamItem, WriteEntry};
pub use spend::{SpendQuery, SpendReport};

/// Calls about the audit trail.
pub struct Audit<'a>(pub(super) &'a Kavach);

/// Which part of the audit trail to return.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// The tenant; `None` means all that the caller may see.
    pub tenant: Option<TenantRef>,
    /// Which entries to return.
    pub filter: AuditFilter,
    /// The most entries to return; `None` means 100.
    pub limit: Option<usize>,
    /// How many matching entries to skip first.
    pub offset: usize,
    /// The cursor that the previous page returned.
    pub cursor: Option<String>,
}

impl Kavach {
    /// Tenants with the time of their last event, the latest first; those that have none known come first. Those without an
    /// event since `since` are left out.
    async fn latest_first(
        &self,
        selection: &Selection,
        since: Option<Timestamp>,
    ) -> Result<Vec<(Timestamp, TenantId)>, Error> {
        let (directory, tenants, only) =
            (Arc::clone(&self.core.directory), selection.tenants.clone(), selection.only());
        let last_event = move |id: &TenantId| {
            let row = directory.known(*id).filter(|_| only.is_none()).and_then(|known| known.row());
            (row.map_or(Timestamp::from_millis(i64::MAX), |row| row.last_event_at), *id)
        };
        off_thread(move || {
            let mut tenants: Vec<_> = tenants.iter().map(last_event).collect();
            tenants.retain(|(last_event, _)| since.is_none_or(|since| *last_event >= since));
            tenants.sort_unstable_by_key(|tenant| Reverse(*tenant));
            tenants
        })
        .await
    }

    /// The audit trail.
    pub fn audit(&self) -> Audit<'_> {
        Audit(self)
    }
}

impl Audit<'_> {
    /// A page of the entries that match, newest first.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_QUERY`, or that the trail can't be read.
    pub async fn query(&self, query: AuditQuery) -> Result<Page<AuditEntry>, Error> {
        let AuditQuery { tenant, filter, limit, offset, cursor } = query;
        let before = match &cursor {
            Some(cursor) => Some(AuditId::parse(cursor).ok_or_else(|| bad_cursor(cursor))?),
            None => None,
        };
        let selection = self.0.tenants_in_filter(tenant.as_ref())?;
        let (credential, only) = (self.0.credential, selection.only());
        let limit = limit.unwrap_or(DEFAULT_AUDIT_PAGE);
        // One more than asked for, to see whether there is a next page.
        let wanted = offset.saturating_add(limit).saturating_add(1);
        let tenants = self.0.latest_first(&selection, filter.since).await?;
        let mut newest = NewestIds::new(UnreadableTrails::new(only.is_none()), filter, before, wanted);
        let mut missing = Vec::new();
        for batch in tenants.chunks(ASKED_AT_ONCE) {
            if batch.first().is_some_and(|(last_event, _)| newest.is_full_after(*last_event)) {
                break;
            }
            let ids: Vec<_> = batch.iter().map(|(_, id)| *id).collect();
            let mut trails = Gathered::default();
            self.0
                .gather(&selection, &ids, &mut trails, |reply| OpenAudit { credential, right: Right::Read, reply })
                .await?;
            missing.append(&mut trails.missing);
            newest.add(trails.items);
            loop {
                let step = move || Ok((newest.step()?, newest));
                let (is_done, rest) = self.0.read_trail(only, step).await?;
                newest = rest;
                if is_done {
                    break;
                }
            }
        }
        let mut found = newest.found();
        let more = found.ids.len() >= wanted;
        found.ids.truncate(offset.saturating_add(limit));
        found.ids.drain(..offset.min(found.ids.len()));
        let next = found.ids.last().filter(|_| more).map(ToString::to_string);
        let turn = self.0.core.audit.pages.take(self.0.party(only)).await.map_err(unreadable)?;
        let mut page = PageEntries::new(found);
        let (mut items, unread) = loop {
            let step = move || Ok((page.step()?, page));
            match self.0.read_trail(only, step).await? {
                (true, page) => break page.made(),
                (false, rest) => page = rest,
            }
        };
        let untold = self.0.fill_in_settled_costs_of_all(&mut items, only).await?;
        // A tenant that was erased meanwhile is not missing.
        missing.extend(untold.into_iter().filter(|tenant| self.0.is_there(*tenant)));
        missing.extend(unread.into_tenants().into_iter().filter(|tenant| self.0.is_there(*tenant)));
        Ok(Page { items, next, missing, turn: Some(Arc::new(turn)) })
    }

    /// One entry by its id.
    ///
    /// # Errors
    /// `AUDIT_ENTRY_NOT_FOUND`.
    pub async fn get(&self, id: &str) -> Result<AuditEntry, Error> {
        let unknown = || Error::new(Code::AuditEntryNotFound, format!("audit entry '{}' not found", quote(id)));
        let wanted = AuditId::parse(id).ok_or_else(unknown)?;
        let route = self.0.tenant_of_id(wanted.tag(), unknown)?;
        let credential = self.0.credential;
        let trail = self.0.ask(&route, |reply| OpenAudit { credential, right: Right::Read, reply }).await?;
        let tenant = route.id;
        let look = move || {
            let entry = |moment, event: &Event<'_>| event.is_entry().then(|| AuditEntry::of(tenant, moment, event));
            trail.look_up(wanted, entry).map(Option::flatten)
        };
        let mut entry = self.0.read_trail(Some(tenant), look).await?.ok_or_else(unknown)?;
        self.0.fill_in_settled_costs(Some(tenant), &route, &mut [&mut entry]).await?;
        Ok(entry)
    }

    /// Exports all entries that match, oldest first, tenant by tenant.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `TENANT_UNAVAILABLE` if any of them can't be read, `TOO_MANY_STREAMS`.
    pub fn export(
        &self,
        tenant: Option<&TenantRef>,
        filter: AuditFilter,
        format: ExportFormat,
    ) -> Result<Export, Error> {
        let one = self.one_tenant(tenant)?;
        let slot = self.0.core.audit.exports.take(self.0.party(one.as_ref().map(|route| route.id)))?;
        Ok(Export::new(self.0.clone(), filter, one, format, slot))
    }

    /// What the entries that match add up to, in groups.
    ///
    /// A settled decision counts with its real cost, at the time of the decision: so a month's sums are those of the
    /// month's entries, however late their usage was reported.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `TOO_MANY_GROUPS`, or that the trail can't be read.
    pub async fn spend(&self, query: SpendQuery) -> Result<SpendReport, Error> {
        self.0.spend(query).await
    }

    /// Streams the entries that match as they are made. First come those since `filter.since`, or those after the entry
    /// `last`, if either is given.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_QUERY` if `last` is not in the trail, `TOO_MANY_STREAMS`.
    pub async fn stream(
        &self,
        tenant: Option<&TenantRef>,
        filter: AuditFilter,
        last: Option<AuditId>,
        write: WriteEntry,
    ) -> Result<AuditStream, Error> {
        let one = self.one_tenant(tenant)?;
        let slot = self.0.core.audit.streams.take(self.0.party(one.as_ref().map(|route| route.id)))?;
        AuditStream::open(self.0.clone(), one.as_ref(), filter, last, write, slot).await
    }

    /// The newest link of a tenant's hash chain, which covers every entry so far. Keep it elsewhere to check later that
    /// none of them was changed.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `STORAGE_UNAVAILABLE`.
    pub async fn checkpoint(&self, tenant: Option<&TenantRef>) -> Result<KeptCheckpoint, Error> {
        let route = self.0.tenant_in_body(tenant)?;
        let credential = self.0.credential;
        let (tenant_id, link) = self.0.ask(&route, |reply| TakeCheckpoint { credential, reply }).await?;
        Ok(KeptCheckpoint::new(tenant_id, link))
    }

    /// The tenant that a filter names; `None` means all of them.
    fn one_tenant(&self, name: Option<&TenantRef>) -> Result<Option<Route>, Error> {
        match (self.0.credential, name) {
            (Credential::Operator(_), None) => {
                self.0.check_operator_key()?;
                self.0.check_phase().map(|()| None)
            }
            _ => self.0.tenant_in_body(name).map(Some),
        }
    }
}
