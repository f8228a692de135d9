//! Lists: which tenants they ask, how their answers become a page, and what becomes of a tenant that gives none.

use std::sync::Arc;

use actix::Handler;
use actix::dev::ToEnvelope;
use actix::prelude::Message;

use super::{Kavach, answer, send};
use crate::actors::messages::Inspect;
use crate::actors::reply::Reply;
use crate::actors::turns::Turn;
use crate::actors::{Route, TenantActor};
use crate::domain::text::quote;
use crate::domain::{Code, Credential, Error, Tenant, TenantId, TenantRef, Timestamp};

/// A part of a list, and where the rest begins.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` on the last.
    pub next: Option<String>,
    /// Tenants that could not answer, whose items are missing. A list of one tenant's items is an error instead.
    pub missing: Vec<TenantId>,
    /// The turn of making it, where such pages take much memory, for as long as there is more than the answer.
    pub(crate) turn: Option<Arc<Turn>>,
}

impl<T> Page<T> {
    /// The page that the first items of a list make.
    pub(super) fn cut(list: Gathered<T>, limit: Option<usize>, cursor: impl FnOnce(&T) -> String) -> Self {
        let Gathered { mut items, missing } = list;
        let limit = limit.unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next, missing, turn: None }
    }
}

/// Which part of a list is asked for.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// At most so many items; `None` is all of them.
    pub limit: Option<usize>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

impl PageRequest {
    /// The id where the page before ended.
    ///
    /// # Errors
    /// `INVALID_QUERY` for a cursor that is none.
    pub(super) fn after<I>(&self, parse: impl FnOnce(&str) -> Option<I>) -> Result<Option<I>, Error> {
        self.cursor.as_deref().map(|cursor| parse(cursor).ok_or_else(|| bad_cursor(cursor))).transpose()
    }

    /// Items to ask each tenant for: one more than wanted tells whether there is a next page.
    pub(super) fn most(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| limit.saturating_add(1))
    }
}

/// The error for a cursor that no page gave.
pub(super) fn bad_cursor(cursor: &str) -> Error {
    let problem = format!("must be one that a page gave, not '{}'", quote(cursor));
    Error::field(Code::InvalidQuery, "cursor", problem)
}

/// The tenants that a list is about.
pub(super) struct Selection {
    /// Those to ask.
    pub routes: Vec<Route>,
    /// Whether nobody named them, so that one that can't answer does not spoil the list.
    all: bool,
}

impl Selection {
    /// The one tenant that a call is about.
    pub fn one(route: Route) -> Self {
        Self { routes: vec![route], all: false }
    }

    /// The one tenant it is about; `None` where it is all of them.
    pub fn only(&self) -> Option<TenantId> {
        self.routes.first().filter(|_| !self.all).map(|route| route.id)
    }
}

/// What several tenants answered, and which did not.
pub(super) struct Gathered<T> {
    pub items: Vec<T>,
    pub missing: Vec<TenantId>,
}

impl Kavach {
    /// The tenants that a filter asks for: the named one, or all the caller may see.
    pub(super) fn tenants_in_filter(&self, name: Option<&TenantRef>) -> Result<Selection, Error> {
        match (self.credential, name) {
            (Credential::Operator(_), None) => {
                self.check_operator_key()?;
                self.check_phase()?;
                Ok(Selection { routes: self.core.routes.all(), all: true })
            }
            _ => self.tenant_in_body(name).map(Selection::one),
        }
    }

    /// Asks all of them at once and waits for every answer.
    ///
    /// # Errors
    /// Why the one tenant that was named can't answer.
    pub(super) async fn gather<M, T>(
        &self,
        selection: Selection,
        mut make: impl FnMut(Reply<T>) -> M,
    ) -> Result<Gathered<T>, Error>
    where
        M: Message<Result = ()> + Send + 'static,
        TenantActor: Handler<M>,
        actix::Context<TenantActor>: ToEnvelope<TenantActor, M>,
    {
        let Selection { routes, all } = selection;
        let asked: Vec<_> = routes.iter().map(|route| (route.id, send(route, &mut make))).collect();
        let mut gathered = Gathered { items: Vec::with_capacity(asked.len()), missing: Vec::new() };
        for (id, sent) in asked {
            let answered = match sent {
                Ok(receiver) => answer(receiver).await,
                Err(error) => Err(error),
            };
            match answered {
                Ok(item) => gathered.items.push(item),
                // One that is being erased is missed by nobody.
                Err(error) if all && error.code() == Code::TenantNotFound => {}
                Err(error) if all && error.code().is_unavailable() => gathered.missing.push(id),
                Err(error) => return Err(error),
            }
        }
        Ok(gathered)
    }

    /// Looks at the state of all of them, each with a part of the list.
    pub(super) async fn gather_lists<T: Send + 'static>(
        &self,
        selection: Selection,
        look: impl Fn(&Tenant, Timestamp) -> Vec<T> + Clone + Send + 'static,
    ) -> Result<Gathered<T>, Error> {
        let credential = self.credential;
        let gathered = self
            .gather(selection, |reply| {
                let look = look.clone();
                Inspect { credential, look: move |tenant: &Tenant, now| Ok(look(tenant, now)), reply }
            })
            .await?;
        Ok(Gathered { items: gathered.items.into_iter().flatten().collect(), missing: gathered.missing })
    }
}
