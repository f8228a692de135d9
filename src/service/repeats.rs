//! Answers to requests that came before with the same idempotency key.
//!
//! The tenant's actor finds that a request is a repeat and carries nothing out. What the first was answered is rebuilt
//! from the event that it made, which is read from the journal on a thread that serves no calls.

use super::kavach::Kavach;
use super::tenant_calls::lost;
use crate::actors::Route;
use crate::actors::messages::{Firsts, OpenFirsts};
use crate::domain::budget::settlement::UsageRecord;
use crate::domain::idempotency::key::RequestKey;
use crate::domain::tenant::{Repeatable, first_answer};
use crate::domain::{AuditId, Code, Decision, Error, Event, Moment, Request};

/// Whether the actor found that a call is a repeat.
fn is_repeat<T>(outcome: &Result<T, Error>) -> bool {
    outcome.as_ref().is_err_and(|error| error.code() == Code::IdempotencyKeyInUse)
}

impl Kavach {
    /// The key of the caller's request.
    pub(super) fn request_key(&self) -> Option<RequestKey> {
        self.once.as_ref().map(|once| once.key().clone())
    }

    /// Has a tenant's actor execute the command of a request that may have a key. A repeat is answered as the first was.
    pub(super) async fn execute_once<C>(&self, route: &Route, command: C) -> Result<C::Reply, Error>
    where
        C: Repeatable + Send + 'static,
        C::Reply: Send + 'static,
    {
        let made = self.execute_keyed(route, command, self.request_key()).await;
        self.or_first_made::<C>(route, made).await
    }

    /// The first answer to a command if the actor found that the request is a repeat, else the actor's.
    pub(super) async fn or_first_made<C>(&self, route: &Route, made: Result<C::Reply, Error>) -> Result<C::Reply, Error>
    where
        C: Repeatable + Send + 'static,
        C::Reply: Send + 'static,
    {
        if !is_repeat(&made) {
            return made;
        }
        let tenant = route.id;
        let read = move |_, moment: Moment, event: &Event<'_>| match event {
            Event::Changed(record) => first_answer::<C>(tenant, moment, record),
            Event::Decided(_) | Event::Used(_) | Event::Delivered(_) | Event::Leased(_) => None,
        };
        self.answer_to_repeat(route, read).await?.ok_or_else(lost)
    }

    /// The answer to the caller's request, if it is a repeat, from the event that it made when it came first. `None` if it
    /// is new.
    pub(super) async fn answer_to_repeat<T: Send + 'static>(
        &self,
        route: &Route,
        read: impl FnOnce(AuditId, Moment, &Event<'_>) -> Option<T> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let answer = self.first_event(route, read).await?;
        if answer.is_some() {
            self.note_repeat();
        }
        Ok(answer)
    }

    /// What `read` makes of the event that the caller's request made when it came first; `None` if the request is new.
    pub(super) async fn first_event<T: Send + 'static>(
        &self,
        route: &Route,
        read: impl FnOnce(AuditId, Moment, &Event<'_>) -> Option<T> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let Some(key) = self.request_key() else { return Ok(None) };
        let Firsts { events, trail } = self.open_firsts(route, vec![key]).await?;
        let Some(first) = events.into_iter().next().transpose()?.flatten() else { return Ok(None) };
        let look = move || trail.look_up(first, |moment, event| read(first, moment, event));
        self.read_trail(Some(route.id), look).await?.flatten().ok_or_else(lost).map(Some)
    }

    /// Notes that the answer to the caller's request had been given before.
    pub(super) fn note_repeat(&self) {
        if let Some(once) = &self.once {
            once.note_repeat();
        }
    }

    /// The answer to the caller's usage report or change of a hold, if it is a repeat.
    pub(super) async fn first_use<T: Send + 'static>(
        &self,
        route: &Route,
        read: impl FnOnce(Moment, &UsageRecord) -> Option<T> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let read = move |_, moment: Moment, event: &Event<'_>| match event {
            Event::Used(record) => read(moment, record),
            Event::Decided(_) | Event::Changed(_) | Event::Delivered(_) | Event::Leased(_) => None,
        };
        self.answer_to_repeat(route, read).await
    }

    /// That answer if the actor found that the request is a repeat, else the actor's.
    pub(super) async fn or_first_use<T: Send + 'static>(
        &self,
        route: &Route,
        used: Result<T, Error>,
        read: impl FnOnce(Moment, &UsageRecord) -> Option<T> + Send + 'static,
    ) -> Result<T, Error> {
        if is_repeat(&used) { self.first_use(route, read).await?.map_or(used, Ok) } else { used }
    }

    /// The decision on a call, or the first one if the actor found that the call is a repeat.
    pub(super) async fn or_first(
        &self,
        route: &Route,
        key: RequestKey,
        decided: Result<Decision, Error>,
    ) -> Result<Decision, Error> {
        if !is_repeat(&decided) {
            return decided;
        }
        let mut decisions = [None];
        self.read_firsts(route, vec![(0, key)], &mut decisions).await?;
        let [first] = decisions;
        first.map_or(decided, Ok)
    }

    /// Replaces the decisions of a batch on calls that the actor found to be repeats by the first ones.
    pub(super) async fn fill_in_firsts(
        &self,
        route: &Route,
        keys: Vec<(usize, RequestKey)>,
        decisions: &mut [Option<Decision>],
    ) -> Result<(), Error> {
        let is_repeat = |decision: &Decision| decision.code == Some(Code::IdempotencyKeyInUse);
        let repeats =
            keys.into_iter().filter(|(at, _)| decisions.get(*at).is_some_and(|d| d.as_ref().is_some_and(is_repeat)));
        let repeats: Vec<_> = repeats.collect();
        if repeats.is_empty() { Ok(()) } else { self.read_firsts(route, repeats, decisions).await }
    }

    async fn read_firsts(
        &self,
        route: &Route,
        keys: Vec<(usize, RequestKey)>,
        decisions: &mut [Option<Decision>],
    ) -> Result<(), Error> {
        let (places, keys): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
        let Firsts { events, trail } = self.open_firsts(route, keys).await?;
        let wanted: Vec<(usize, AuditId)> =
            places.into_iter().zip(events).filter_map(|(place, first)| Some((place, first.ok()??))).collect();
        let look = move || {
            let decision = |id: AuditId| {
                trail.look_up(id, |_, event| match event {
                    Event::Decided(record) => Some(Decision::of_record(id, record)),
                    Event::Changed(_) | Event::Used(_) | Event::Delivered(_) | Event::Leased(_) => None,
                })
            };
            wanted
                .into_iter()
                .map(|(place, id)| Ok((place, decision(id)?.flatten())))
                .collect::<std::io::Result<Vec<_>>>()
        };
        for (place, first) in self.read_trail(Some(route.id), look).await? {
            if let Some(slot) = decisions.get_mut(place) {
                *slot = Some(first.ok_or_else(lost)?);
            }
        }
        Ok(())
    }

    async fn open_firsts(&self, route: &Route, keys: Vec<RequestKey>) -> Result<Firsts, Error> {
        let credential = self.credential;
        self.ask(route, |reply| OpenFirsts { credential, keys, reply }).await
    }
}

/// The keys of a batch, each with the place of its request.
pub(super) fn keys_of(requests: &[Request]) -> Vec<(usize, RequestKey)> {
    let key = |(at, request): (usize, &Request)| request.key.as_deref().map(|key| (at, key.clone()));
    requests.iter().enumerate().filter_map(key).collect()
}
