//! Calls about the audit trail. All reading happens on threads that serve no calls.

use std::sync::Arc;

use super::export::{Export, ExportFormat};
use super::follow::{AuditStream, WriteEntry};
use super::lists::bad_cursor;
use super::newest::{Entries, Newest, Unread};
use super::trail::unreadable;
use super::{Kavach, Page, ask};
use crate::actors::Route;
use crate::actors::checkpoint::TakeCheckpoint;
use crate::actors::messages::OpenAudit;
use crate::domain::limits::DEFAULT_AUDIT_PAGE;
use crate::domain::text::quote;
use crate::domain::{AuditEntry, AuditFilter, AuditId, Code, Credential, Error, TenantRef};
use crate::store::checkpoint::KeptCheckpoint;

/// Calls about the audit trail.
pub struct Audit<'a>(pub(super) &'a Kavach);

/// Which part of the trail is asked for.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Entries of that tenant; `None` is all the caller may see.
    pub tenant: Option<TenantRef>,
    /// Which entries.
    pub filter: AuditFilter,
    /// At most so many; `None` is a hundred.
    pub limit: Option<usize>,
    /// Skip so many first.
    pub offset: usize,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

impl Audit<'_> {
    /// Entries that the filter asks for, newest first.
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
        let trails = self.0.gather(selection, |reply| OpenAudit { credential, reply }).await?;
        let limit = limit.unwrap_or(DEFAULT_AUDIT_PAGE);
        // One more than asked for tells whether there is a next page.
        let wanted = offset.saturating_add(limit).saturating_add(1);
        let mut newest = Newest::new(trails.items, Unread::new(only.is_none()), filter, before, wanted);
        let mut found = loop {
            let step = move || Ok((newest.step()?, newest));
            match self.0.read_trail(only, step).await? {
                (true, newest) => break newest.found(),
                (false, rest) => newest = rest,
            }
        };
        let more = found.ids.len() >= wanted;
        found.ids.truncate(offset.saturating_add(limit));
        found.ids.drain(..offset.min(found.ids.len()));
        let next = found.ids.last().filter(|_| more).map(ToString::to_string);
        let turn = self.0.core.audit.pages.take(self.0.party(only)).await.map_err(unreadable)?;
        let mut page = Entries::new(found);
        let (mut items, unread) = loop {
            let step = move || Ok((page.step()?, page));
            match self.0.read_trail(only, step).await? {
                (true, page) => break page.made(),
                (false, rest) => page = rest,
            }
        };
        let mut missing = trails.missing;
        let untold = self.0.tell_settled_of_all(&mut items, only).await?;
        // One that was erased meanwhile is missed by nobody.
        missing.extend(untold.into_iter().filter(|tenant| self.0.is_there(*tenant)));
        missing.extend(unread.into_tenants().into_iter().filter(|tenant| self.0.is_there(*tenant)));
        Ok(Page { items, next, missing, turn: Some(Arc::new(turn)) })
    }

    /// One entry.
    ///
    /// # Errors
    /// `AUDIT_ENTRY_NOT_FOUND`.
    pub async fn get(&self, id: &str) -> Result<AuditEntry, Error> {
        let unknown = || Error::new(Code::AuditEntryNotFound, format!("there is no audit entry '{}'", quote(id)));
        let wanted = AuditId::parse(id).ok_or_else(unknown)?;
        let route = self.0.tenant_of_id(wanted.tag(), unknown)?;
        let credential = self.0.credential;
        let trail = ask(&route, |reply| OpenAudit { credential, reply }).await?;
        let tenant = route.id;
        let look = move || trail.look_up(wanted, |moment, event| AuditEntry::of(tenant, moment, event));
        let mut entry = self.0.read_trail(Some(tenant), look).await?.ok_or_else(unknown)?;
        self.0.tell_settled(&route, &mut [&mut entry]).await?;
        Ok(entry)
    }

    /// All entries that the filter asks for, oldest first, in that format; tenants one after the other.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `TENANT_UNAVAILABLE` where one of them can't be read, `TOO_MANY_STREAMS`.
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

    /// Entries that the filter asks for as they are made, and before that those since `filter.since`, or after
    /// the entry `last`, where one is given.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_QUERY` where `last` is no entry of the trail, `TOO_MANY_STREAMS`.
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

    /// The newest link of a tenant's hash chain, which covers all entries until now. Kept elsewhere, it shows later
    /// whether any of them was changed.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `STORAGE_UNAVAILABLE`.
    pub async fn checkpoint(&self, tenant: Option<&TenantRef>) -> Result<KeptCheckpoint, Error> {
        let route = self.0.tenant_in_body(tenant)?;
        let credential = self.0.credential;
        let (tenant_id, link) = ask(&route, |reply| TakeCheckpoint { credential, reply }).await?;
        Ok(KeptCheckpoint::new(tenant_id, link))
    }

    /// The tenant a filter names; `None` is all of them.
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
