//! Searches: what an evaluation would say yes to. Nothing is recorded or charged.

use std::borrow::Cow;

use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::check_content_type;
use super::entities::{AGENT, Action, Asking, AuthzenContext, Entity, ResourceEntity, Sought, segment_of};
use super::evaluation::asking;
use crate::api::auth::Viewer;
use crate::api::authorize_body::CallHead;
use crate::api::error::HandlerResult;
use crate::api::input::{UnreadBody, parse};
use crate::api::responses;
use crate::domain::limits::{MAX_AUTHORIZE_BODY_BYTES, MAX_PAGE};
use crate::domain::{Code, Error, Request};
use crate::service::{SearchPage, SearchResult};

/// The action that a search uses as a placeholder.
const ANY: &str = "*";
/// Bytes of a token that say which search it is of.
const MARK_BYTES: usize = 8;

type SearchInput<T> = (HttpRequest, UnreadBody<T, MAX_AUTHORIZE_BODY_BYTES>);

/// Which part of the results is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "AuthzenPageRequest")]
struct PageRequestJson<'a> {
    /// The `next_token` of the previous page.
    #[serde(borrow)]
    #[schemars(with = "Option<String>")]
    token: Option<Cow<'a, str>>,
    /// The most results on a page; no page has more than 1,000.
    #[schemars(range(min = 1))]
    limit: Option<usize>,
}

/// Which subjects may do that?
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "AuthzenSubjectSearch")]
pub struct SubjectBody<'a> {
    /// The subject.
    #[serde(borrow)]
    subject: Sought<'a>,
    /// The action.
    #[serde(borrow)]
    action: Action<'a>,
    /// The resource.
    #[serde(borrow)]
    #[schemars(with = "ResourceEntity")]
    resource: Entity<'a>,
    /// The context of the call.
    #[serde(borrow)]
    context: Option<AuthzenContext<'a>>,
    /// Which part of the results.
    #[serde(borrow)]
    page: Option<PageRequestJson<'a>>,
}

/// On which resources may the subject do that?
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "AuthzenResourceSearch")]
pub struct ResourceBody<'a> {
    /// The subject.
    #[serde(borrow)]
    subject: Entity<'a>,
    /// The action.
    #[serde(borrow)]
    action: Action<'a>,
    /// The resource.
    #[serde(borrow)]
    resource: Sought<'a>,
    /// The context of the call.
    #[serde(borrow)]
    context: Option<AuthzenContext<'a>>,
    /// Which part of the results.
    #[serde(borrow)]
    page: Option<PageRequestJson<'a>>,
}

/// What may the subject do there? An action in the request is ignored.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "AuthzenActionSearch")]
pub struct ActionBody<'a> {
    /// The subject.
    #[serde(borrow)]
    subject: Entity<'a>,
    /// The resource.
    #[serde(borrow)]
    #[schemars(with = "ResourceEntity")]
    resource: Entity<'a>,
    /// The context of the call.
    #[serde(borrow)]
    context: Option<AuthzenContext<'a>>,
    /// Which part of the results.
    #[serde(borrow)]
    page: Option<PageRequestJson<'a>>,
}

/// A checked search.
#[derive(Debug)]
pub struct AuthzenSearch {
    /// The request, with a placeholder for what is searched for.
    pub request: Request,
    /// Which results.
    pub page: SearchPage,
    /// The start of its page tokens.
    mark: [u8; MARK_BYTES],
    /// The type of what is found; none of an action.
    kind: String,
}

impl SubjectBody<'_> {
    /// Checks the body.
    pub fn check(&self, head: &CallHead<'_>) -> Result<AuthzenSearch, Error> {
        let Self { subject, action, resource, context, page } = self;
        let parts = [&*subject.r#type, &resource.r#type, &resource.id, &action.name];
        let properties = [subject.properties, resource.properties, action.properties];
        let resource = resource.resource();
        let asking = Asking {
            agent: None,
            action: &action.name,
            arguments: action.properties,
            resource,
            context: context.as_ref(),
        };
        AuthzenSearch::of(&asking, head, page.as_ref(), "subject", &parts, &properties, &subject.r#type)
    }
}

impl ResourceBody<'_> {
    /// Checks the body.
    pub fn check(&self, head: &CallHead<'_>) -> Result<AuthzenSearch, Error> {
        let Self { subject, action, resource, context, page } = self;
        let parts = [&*subject.r#type, &subject.id, &action.name, &resource.r#type];
        let properties = [subject.properties, action.properties, resource.properties];
        let asking = Asking {
            agent: Some(subject.agent()),
            action: &action.name,
            arguments: action.properties,
            resource: segment_of(&resource.r#type),
            context: context.as_ref(),
        };
        AuthzenSearch::of(&asking, head, page.as_ref(), "resource", &parts, &properties, &resource.r#type)
    }
}

impl ActionBody<'_> {
    /// Checks the body.
    pub fn check(&self, head: &CallHead<'_>) -> Result<AuthzenSearch, Error> {
        let Self { subject, resource, context, page } = self;
        let parts = [&*subject.r#type, &subject.id, &resource.r#type, &resource.id];
        let properties = [subject.properties, resource.properties];
        let any = Action { name: ANY.into(), properties: None };
        let asking = asking(subject, &any, resource, context.as_ref());
        AuthzenSearch::of(&asking, head, page.as_ref(), "action", &parts, &properties, "")
    }
}

impl AuthzenSearch {
    fn of(
        asking: &Asking<'_>,
        head: &CallHead<'_>,
        page: Option<&PageRequestJson<'_>>,
        route: &str,
        parts: &[&str],
        properties: &[Option<&str>],
        kind: &str,
    ) -> Result<Self, Error> {
        let request = asking.request(head)?;
        if let Some(problem) = request.problem() {
            return Err(Error::new(Code::InvalidField, problem));
        }
        let mark = mark(route, parts, properties, asking.context);
        let from = page.and_then(|page| page.token.as_deref()).filter(|token| !token.is_empty());
        let from = from.map(|token| read_token(token, mark).ok_or_else(bad_token)).transpose()?;
        let limit = page.and_then(|page| page.limit).unwrap_or(MAX_PAGE).min(MAX_PAGE);
        if limit == 0 {
            return Err(Error::field(Code::InvalidField, "page.limit", "must be at least 1"));
        }
        Ok(Self { request, page: SearchPage { limit, from }, mark, kind: kind.to_owned() })
    }

    /// Whether it looks for agents.
    pub fn is_for_agents(&self) -> bool {
        self.kind == AGENT
    }

    /// The answer, with each result shaped from its text.
    fn answer<T: Serialize>(&self, found: SearchResult, shape: impl Fn(String) -> T) -> HandlerResult {
        let SearchResult { items, next, cut_off } = found;
        let token = next.map(|from| URL_SAFE_NO_PAD.encode([&self.mark, from.as_bytes()].concat()));
        let results: Vec<T> = items.into_iter().map(shape).collect();
        let page = PageAnswer { next_token: token.unwrap_or_default(), count: results.len() };
        let context = cut_off.then_some(Incomplete { complete: false, reason: CUT_OFF });
        responses::json(HttpResponse::Ok(), &SearchAnswer { page, context, results })
    }
}

/// A hash of what is searched for, so that a token of one search is not taken for another's. The `limit` is left out.
fn mark(
    route: &str,
    parts: &[&str],
    properties: &[Option<&str>],
    context: Option<&AuthzenContext<'_>>,
) -> [u8; MARK_BYTES] {
    let mut hash = Sha256::new();
    let context = context.map_or([None; 4], |context| {
        [context.ip.as_deref(), context.user_agent.as_deref(), context.tenant_id.as_deref(), context.tokens_cost]
    });
    let required = [route].into_iter().chain(parts.iter().copied()).map(Some);
    for part in required.chain(properties.iter().copied()).chain(context) {
        // Each with its length, so that no two lists of parts hash alike.
        hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.finalize().first_chunk().copied().unwrap_or_default()
}

fn read_token(token: &str, mark: [u8; MARK_BYTES]) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    String::from_utf8(bytes.strip_prefix(&mark)?.to_vec()).ok()
}

fn bad_token() -> Error {
    Error::field(Code::InvalidField, "page.token", "must be the next_token of a page of this search")
}

const CUT_OFF: &str = "There may be more results: searching the delegations takes more work than one search may do.";

/// A page of results.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuthzenFound_{T}")]
pub struct SearchAnswer<T> {
    /// Where the rest is.
    page: PageAnswer,
    /// Present if results may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Incomplete>,
    /// What was found.
    results: Vec<T>,
}

/// Where the rest is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuthzenPage")]
struct PageAnswer {
    /// The token of the next page; empty on the last.
    next_token: String,
    /// How many results this page has.
    count: usize,
}

/// Says that there may be more results.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuthzenIncomplete")]
struct Incomplete {
    /// Whether the search was complete.
    complete: bool,
    /// Why not.
    reason: &'static str,
}

/// A subject or a resource.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuthzenEntityFound")]
pub struct EntityAnswer<'a> {
    /// The type.
    r#type: &'a str,
    /// The id. In a resource, `*` stands for every value in its place.
    id: String,
}

/// An action.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuthzenActionFound")]
pub struct ActionAnswer {
    /// Its name; `*` is every action.
    name: String,
}

/// `POST /access/v1/search/subject`
pub async fn subject(Viewer(kavach): Viewer, (http, body): SearchInput<SubjectBody<'static>>) -> HandlerResult {
    let body = body.bytes(&http).await?;
    check_content_type(http.headers())?;
    let search = parse::<SubjectBody<'_>>(&body)?.check(&CallHead::asking(http.headers()))?;
    let found = match search.is_for_agents() {
        true => kavach.search_agents(search.request.clone(), &search.page).await?,
        false => SearchResult::default(),
    };
    search.answer(found, |id| EntityAnswer { r#type: &search.kind, id })
}

/// `POST /access/v1/search/resource`
pub async fn resource(Viewer(kavach): Viewer, (http, body): SearchInput<ResourceBody<'static>>) -> HandlerResult {
    let body = body.bytes(&http).await?;
    check_content_type(http.headers())?;
    let search = parse::<ResourceBody<'_>>(&body)?.check(&CallHead::asking(http.headers()))?;
    let segment = segment_of(&search.kind);
    let found = kavach.search_resources(search.request.clone(), &segment, &search.page).await?;
    search.answer(found, |resource| {
        let id = resource.get(segment.len() + 1..).unwrap_or_default().to_owned();
        EntityAnswer { r#type: &search.kind, id }
    })
}

/// `POST /access/v1/search/action`
pub async fn action(Viewer(kavach): Viewer, (http, body): SearchInput<ActionBody<'static>>) -> HandlerResult {
    let body = body.bytes(&http).await?;
    check_content_type(http.headers())?;
    let search = parse::<ActionBody<'_>>(&body)?.check(&CallHead::asking(http.headers()))?;
    let found = kavach.search_actions(search.request.clone(), &search.page).await?;
    search.answer(found, |name| ActionAnswer { name })
}
