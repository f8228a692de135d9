//! Lists: which tenants to ask, how their answers become a page, and what happens if a tenant gives none.

use std::sync::Arc;

use actix::Handler;
use actix::dev::ToEnvelope;
use actix::prelude::Message;

use super::kavach::Kavach;
use crate::actors::fair_semaphore::Turn;
use crate::actors::messages::Inspect;
use crate::actors::reply::Reply;
use crate::actors::{TenantActor, Visit};
use crate::domain::text::quote;
use crate::domain::{Code, Credential, Error, Right, Tenant, TenantId, TenantRef, Timestamp};
use crate::store::CatalogRow;

/// One page of a list, and where the next one starts.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` on the last page.
    pub next: Option<String>,
    /// Tenants that could not answer, so their items are missing. A list of one tenant fails instead.
    pub missing: Vec<TenantId>,
    /// The turn to build it, for pages that take much memory. Held until only the serialized answer is left.
    pub(crate) turn: Option<Arc<Turn>>,
}

impl<T> Page<T> {
    /// Makes a page of a list's first items.
    pub(super) fn cut(list: Gathered<T>, limit: Option<usize>, cursor: impl FnOnce(&T) -> String) -> Self {
        let Gathered { mut items, missing } = list;
        let limit = limit.unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next, missing, turn: None }
    }
}

/// Which page of a list to return.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// The most items to return; `None` means all of them.
    pub limit: Option<usize>,
    /// The cursor that the previous page returned.
    pub cursor: Option<String>,
}

impl PageRequest {
    /// The id at which the previous page ended.
    ///
    /// # Errors
    /// `INVALID_QUERY` for a malformed cursor.
    pub fn after<I>(&self, parse: impl FnOnce(&str) -> Option<I>) -> Result<Option<I>, Error> {
        self.cursor.as_deref().map(|cursor| parse(cursor).ok_or_else(|| bad_cursor(cursor))).transpose()
    }

    /// Items to ask each tenant for: one more than wanted, to see whether there is a next page.
    pub(super) fn most(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| limit.saturating_add(1))
    }
}

/// The error for a malformed cursor.
pub(super) fn bad_cursor(cursor: &str) -> Error {
    let problem = format!("must be the cursor of a page, not '{}'", quote(cursor));
    Error::field(Code::InvalidQuery, "cursor", problem)
}

/// Tenants asked at once. Between two batches, workers get to do other things, and tenants that were read into memory for
/// the list may leave it.
pub(super) const ASKED_AT_ONCE: usize = 64;

/// The tenants that a list covers.
pub(super) struct Selection {
    /// The tenants to ask, in order of their ids.
    pub tenants: Vec<TenantId>,
    /// Whether the caller asked for all tenants. Then one that can't answer does not fail the list.
    all: bool,
}

impl Selection {
    /// A list of one tenant.
    pub fn one(tenant: TenantId) -> Self {
        Self { tenants: vec![tenant], all: false }
    }

    /// The one tenant that the caller asked for; `None` if it was all of them.
    pub fn only(&self) -> Option<TenantId> {
        self.tenants.first().filter(|_| !self.all).copied()
    }
}

/// What of a list a tenant's row says.
pub(super) enum InRow<T> {
    /// All of it.
    Items(Vec<T>),
    /// The tenant has to be asked.
    Unknown,
}

impl<T> InRow<T> {
    /// That there is nothing, if that is so.
    pub fn empty_if(is_empty: bool) -> Self {
        if is_empty { Self::Items(Vec::new()) } else { Self::Unknown }
    }
}

/// The answers of several tenants.
#[derive(Debug)]
pub(super) struct Gathered<T> {
    pub items: Vec<T>,
    /// Tenants that could not answer.
    pub missing: Vec<TenantId>,
}

impl<T> Default for Gathered<T> {
    fn default() -> Self {
        Self { items: Vec::new(), missing: Vec::new() }
    }
}

impl Kavach {
    /// The tenants that a filter selects: the named one, or all that the caller may see.
    pub(super) fn tenants_in_filter(&self, name: Option<&TenantRef>) -> Result<Selection, Error> {
        match (self.credential, name) {
            (Credential::Operator(_), None) => {
                self.check_operator_key()?;
                self.check_phase()?;
                Ok(Selection { tenants: self.core.directory.ids(), all: true })
            }
            _ => self.tenant_in_body(name).map(|route| Selection::one(route.id)),
        }
    }

    /// Asks tenants at once, and waits for every answer.
    ///
    /// # Errors
    /// The error of a named tenant that can't answer.
    pub(super) async fn gather<M, T>(
        &self,
        selection: &Selection,
        tenants: &[TenantId],
        gathered: &mut Gathered<T>,
        mut make: impl FnMut(Reply<T>) -> M,
    ) -> Result<(), Error>
    where
        M: Message<Result = ()> + Send + 'static,
        TenantActor: Handler<M>,
        actix::Context<TenantActor>: ToEnvelope<TenantActor, M>,
    {
        let all = selection.all;
        let visit = if all { Visit::Scan } else { self.visit() };
        let asked: Vec<_> = tenants.iter().map(|id| (*id, self.send(*id, visit, &mut make))).collect();
        for (id, sent) in asked {
            let answered = match sent {
                Ok(receiver) => self.answer(id, receiver).await,
                Err(error) => Err(error),
            };
            match answered {
                Ok(item) => gathered.items.push(item),
                // A tenant that is being erased is not missing.
                Err(error) if all && error.code() == Code::TenantNotFound => {}
                Err(error) if all && error.code().is_unavailable() => gathered.missing.push(id),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The first `most` items of a list over several tenants, in order of `key`. A tenant that is not in memory is asked only
    /// if its row does not say what the list needs.
    pub(super) async fn gather_list<T: Send + 'static, K: Ord>(
        &self,
        selection: Selection,
        most: usize,
        key: impl Fn(&T) -> K,
        in_row: impl Fn(&CatalogRow) -> InRow<T>,
        look: impl Fn(&Tenant, Timestamp) -> Vec<T> + Clone + Send + 'static,
    ) -> Result<Gathered<T>, Error> {
        let credential = self.credential;
        let (mut items, mut missing) = (Vec::new(), Vec::new());
        for batch in selection.tenants.chunks(ASKED_AT_ONCE) {
            let mut asked = Vec::with_capacity(batch.len());
            for id in batch {
                let row = self.core.directory.known(*id).filter(|_| selection.all).and_then(|known| known.row());
                match row.map_or(InRow::Unknown, |row| in_row(&row)) {
                    InRow::Items(known) => items.extend(known),
                    InRow::Unknown => asked.push(*id),
                }
            }
            let mut gathered = Gathered::default();
            self.gather(&selection, &asked, &mut gathered, |reply| {
                let look = look.clone();
                Inspect {
                    credential,
                    right: Right::Read,
                    look: move |tenant: &Tenant, now| Ok(look(tenant, now)),
                    reply,
                }
            })
            .await?;
            items.extend(gathered.items.into_iter().flatten());
            missing.append(&mut gathered.missing);
            items.sort_by_key(&key);
            items.truncate(most);
            if asked.is_empty() {
                tokio::task::yield_now().await;
            }
        }
        Ok(Gathered { items, missing })
    }
}
