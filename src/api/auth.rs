//! Guards: the only way for a handler to get at the service. A guard is an extractor that finds out who calls and yields
//! a [`Kavach`] that acts for that caller; a handler without a guard has nothing to call.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, USER_AGENT};
use actix_web::{FromRequest, HttpRequest, web};
use ipnet::IpNet;

use super::auth_throttle::AuthThrottle;
use super::error::Problem;
use super::metric_families::ConnectionCounts;
use super::slow_client_memory::SlowClientMemory;
use crate::domain::author::Author;
use crate::domain::limits::{MAX_HELD_ANSWER_BYTES, MAX_SLOW_BODY_BYTES};
use crate::domain::{Code, Credential, Error, Right, TenantId};
use crate::gateway::Gateway;
use crate::net::ConnectionLimit;
use crate::service::Kavach;
use crate::settings::ServerSettings;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteAccess {
    /// Anyone, without a key.
    Public,
    /// Whoever has that right.
    Right(Right),
    /// An agent token, for its own agent.
    Agent,
}

/// An extractor that finds out who calls.
pub trait CallerGuard: FromRequest<Error = Problem> + 'static {
    /// Who gets past it.
    const ACCESS: RouteAccess;

    /// Checks the credential, if the guard left that to the tenant's actor.
    fn check(&self) -> impl Future<Output = Result<(), Problem>> {
        std::future::ready(Ok(()))
    }
}

/// What all workers share. Private to this folder: handlers reach the service through guards alone.
#[derive(Clone)]
pub struct Shared {
    pub(super) kavach: Kavach,
    /// Peers whose `X-Forwarded-For` is believed.
    trusted_proxies: Arc<[IpNet]>,
    /// The URL that clients know the server by, if it is configured.
    public_url: Option<Arc<str>>,
    /// Whether the server itself speaks TLS.
    is_tls: bool,
    /// Limits calls without a valid key.
    pub(super) auth_throttle: Arc<AuthThrottle>,
    /// Memory of bodies on their way in.
    pub(super) bodies: Arc<SlowClientMemory>,
    /// Memory of large responses on their way out.
    pub(super) answers: Arc<SlowClientMemory>,
    /// Which gateway asks, and the rules that map its requests.
    pub(super) gateway: Arc<Gateway>,
    /// The limit on connections, and how many are open.
    limit: Arc<ConnectionLimit>,
}

impl Shared {
    /// Shares the service, with these settings, this gateway and this limit on connections.
    pub fn new(kavach: Kavach, settings: &ServerSettings, gateway: Gateway, limit: Arc<ConnectionLimit>) -> Self {
        Self {
            kavach,
            trusted_proxies: settings.trusted_proxies.clone().into(),
            public_url: settings.public_url.as_ref().map(|url| url.as_str().into()),
            is_tls: settings.tls_cert.is_some(),
            auth_throttle: Arc::default(),
            bodies: SlowClientMemory::new(MAX_SLOW_BODY_BYTES),
            answers: SlowClientMemory::new(MAX_HELD_ANSWER_BYTES),
            gateway: Arc::new(gateway),
            limit,
        }
    }

    /// The URL that clients know the server by, without a slash at its end, if it is configured.
    pub(super) fn public_url(&self) -> Option<&str> {
        self.public_url.as_deref()
    }

    /// Whether the server itself speaks TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> ConnectionCounts {
        ConnectionCounts { open: self.limit.open(), most: self.limit.most(), refused: self.limit.refused() }
    }

    /// Whether the peer is a trusted proxy.
    pub(super) fn is_forwarded(&self, peer: Option<SocketAddr>) -> bool {
        peer.is_some_and(|peer| is_trusted(&self.trusted_proxies, peer.ip().to_canonical()))
    }

    /// The address that a call came from, as far as it can be trusted.
    pub(super) fn origin(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Option<IpAddr> {
        origin(headers, peer, &self.trusted_proxies)
    }
}

/// Anyone who may ask for decisions. The credential is not checked yet: the tenant's actor does that in the step in
/// which it decides.
pub struct Decider {
    /// The server, acting for that credential.
    pub kavach: Kavach,
    /// Whether an agent asks for itself. Its address is then the connection's, not the one in the body.
    pub is_agent: bool,
    /// The address that the call came from, as far as it can be trusted.
    pub peer: Option<IpAddr>,
}

/// An agent that a gateway asks for, with the agent's token. Like a [`Decider`]'s, the token is checked with the
/// decision.
pub struct AgentCaller {
    /// The server, acting for the agent.
    pub decider: Decider,
    /// The tenant that the token names.
    pub tenant: TenantId,
    /// Which gateway asks.
    pub gateway: Arc<Gateway>,
}

/// Anyone, without a key. These routes show nothing of what a tenant holds.
pub struct Public(
    /// The server, for its own state only.
    pub Kavach,
);

type Extracted<T> = Pin<Box<dyn Future<Output = Result<T, Problem>>>>;

/// Guards that check the key, and that its role has a right. Each hands out the server, acting for the caller.
macro_rules! guards {
    ($($(#[$doc:meta])* $guard:ident $right:ident)+) => {
        $(
            $(#[$doc])*
            pub struct $guard(
                /// The server, acting for the caller.
                pub Kavach,
            );

            impl CallerGuard for $guard {
                const ACCESS: RouteAccess = RouteAccess::Right(Right::$right);
            }

            impl FromRequest for $guard {
                type Error = Problem;
                type Future = Extracted<Self>;

                fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                    let caller = caller(request, Right::$right);
                    Box::pin(async move { caller.await.map(Self) })
                }
            }
        )+
    };
}

guards! {
    /// An operator who may change what belongs to the server.
    Operator Operate
    /// An operator who may read.
    Auditor Oversee
    /// Whoever may change what a tenant has.
    Admin Manage
    /// Whoever may read what a tenant has.
    Viewer Read
    /// Whoever may report usage.
    Reporter Report
    /// Whoever may ask what a token is.
    Introspector Introspect
    /// Any key.
    AnyKey Ask
}

impl CallerGuard for Decider {
    const ACCESS: RouteAccess = RouteAccess::Right(Right::Decide);

    async fn check(&self) -> Result<(), Problem> {
        self.kavach.require(Right::Decide).await?;
        Ok(())
    }
}

impl FromRequest for Decider {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(shared(request).and_then(|shared| Self::of(shared, request.headers(), request.peer_addr())))
    }
}

impl Decider {
    /// Reads who asks from a request's head and its peer address.
    pub(super) fn of(shared: &Shared, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<Self, Problem> {
        Ok(Self::presenting(credential(headers)?, shared, headers, peer))
    }

    /// A decider with a credential that was read already.
    fn presenting(credential: Credential, shared: &Shared, headers: &HeaderMap, peer: Option<SocketAddr>) -> Self {
        Self {
            kavach: shared.kavach.acting_for(credential),
            is_agent: matches!(credential, Credential::AgentToken(..)),
            peer: shared.origin(headers, peer),
        }
    }
}

impl CallerGuard for AgentCaller {
    const ACCESS: RouteAccess = RouteAccess::Agent;
}

impl FromRequest for AgentCaller {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let decider = shared(request).and_then(|shared| {
            let credential = credential(request.headers())?;
            let decider = Decider::presenting(credential, shared, request.headers(), request.peer_addr());
            Ok((decider, credential, Arc::clone(&shared.gateway)))
        });
        Box::pin(async move {
            let (decider, credential, gateway) = decider?;
            let Credential::AgentToken(tenant, _) = credential else {
                decider.kavach.authenticate().await?;
                return Err(Problem::new(Code::Forbidden, "this requires an agent token"));
            };
            Ok(Self { decider, tenant, gateway })
        })
    }
}

impl CallerGuard for Public {
    const ACCESS: RouteAccess = RouteAccess::Public;
}

impl FromRequest for Public {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(shared(request).map(|shared| Self(shared.kavach.clone())))
    }
}

pub(super) fn shared(request: &HttpRequest) -> Result<&Shared, Problem> {
    let shared = request.app_data::<web::Data<Shared>>();
    shared.map(|shared| &***shared).ok_or_else(|| Problem::new(Code::InternalError, "the server is not set up"))
}

/// The server, acting for the caller of a request, who needs that right.
fn caller(request: &HttpRequest, right: Right) -> impl Future<Output = Result<Kavach, Problem>> + use<> {
    let named = named_caller(request);
    // What is wrong with it is for a caller with a valid key to learn.
    let reason = reason_of(request.headers());
    async move {
        let kavach = named?;
        kavach.require(right).await?;
        Ok(match reason? {
            Some(reason) => kavach.because_of(REASON, &reason)?,
            None => kavach,
        })
    }
}

fn named_caller(request: &HttpRequest) -> Result<Kavach, Problem> {
    let (shared, headers) = (shared(request)?, request.headers());
    let user_agent = headers.get(USER_AGENT).and_then(|text| text.to_str().ok());
    let author = Author::calling(shared.origin(headers, request.peer_addr()), user_agent);
    Ok(shared.kavach.acting_for(credential(headers)?).known_as(author))
}

/// The header with the reason of a change, as errors spell it.
pub const REASON: &str = "X-Reason";

/// The reason in a request's head.
fn reason_of(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let mut values = headers.get_all(REASON);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::field(Code::InvalidField, REASON, "must be in the request only once"));
    }
    let text = std::str::from_utf8(value.as_bytes());
    text.map(|text| Some(text.to_owned())).map_err(|_| Error::field(Code::InvalidField, REASON, "must be UTF-8"))
}

/// The bearer credential of the request (RFC 6750, 2.1).
fn credential(headers: &HeaderMap) -> Result<Credential, Problem> {
    let refused = |reason: &'static str| Problem(Error::new(Code::Unauthenticated, reason));
    let mut values = headers.get_all(AUTHORIZATION);
    let text = values.next().and_then(|value| bearer(value.as_bytes()));
    if values.next().is_some() {
        // A proxy and this server might disagree on which of them counts.
        return Err(refused("the request must have only one 'Authorization' header"));
    }
    text.map(Credential::parse).ok_or_else(|| refused("the request needs 'Authorization: Bearer <key>'"))
}

/// The scheme before a bearer credential.
const BEARER: &[u8] = b"Bearer ";

/// The text of a bearer credential (RFC 6750, 2.1) in the value of an `Authorization` header; `None` if it is not
/// ASCII.
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, text) = value.split_at_checked(BEARER.len())?;
    let text = text.is_ascii().then(|| std::str::from_utf8(text).ok()).flatten()?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| text.trim())
}

fn is_trusted(trusted: &[IpNet], ip: IpAddr) -> bool {
    trusted.iter().any(|net| net.contains(&ip))
}

/// Where a call came from: the peer, or, if the peer is a trusted proxy, the last address in `X-Forwarded-For` that is
/// not a trusted proxy's. Text there that is no address makes the origin unknown.
fn origin(headers: &HeaderMap, peer: Option<SocketAddr>, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = peer?.ip().to_canonical();
    if !is_trusted(trusted, peer) {
        return Some(peer);
    }
    let mut last = peer;
    let lines: Vec<_> = headers.get_all("x-forwarded-for").collect();
    for line in lines.into_iter().rev() {
        for text in line.to_str().ok()?.split(',').rev() {
            last = address(text.trim())?.to_canonical();
            if !is_trusted(trusted, last) {
                return Some(last);
            }
        }
    }
    Some(last)
}

/// An address as proxies write it: alone, or with the port that the client called from.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let address = text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.or_else(bare)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn seen(peer_text: &str, forwarded: &[&str], trusted: &[&str]) -> Option<String> {
        let trusted: Vec<IpNet> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        let mut request = TestRequest::default().peer_addr(format!("{peer_text}:1").parse().unwrap());
        for line in forwarded {
            request = request.append_header(("X-Forwarded-For", *line));
        }
        let request = request.to_http_request();
        origin(request.headers(), request.peer_addr(), &trusted).map(|ip| ip.to_string())
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(seen("192.0.2.1", &["10.0.0.1"], &[]), some("192.0.2.1"));
        assert_eq!(seen("10.0.0.9", &["198.51.100.7"], &["10.0.0.0/8"]), some("198.51.100.7"));
        // The entry on the left is the client's own claim; the proxy added the one on the right.
        assert_eq!(seen("10.0.0.9", &["1.2.3.4, 198.51.100.7", "10.0.0.8"], &["10.0.0.0/8"]), some("198.51.100.7"));
        assert_eq!(seen("10.0.0.9", &["::ffff:198.51.100.7"], &["10.0.0.0/8"]), some("198.51.100.7"));
        assert_eq!(seen("10.0.0.9", &["unknown"], &["10.0.0.0/8"]), None);
        assert_eq!(seen("10.0.0.9", &[], &["10.0.0.0/8"]), some("10.0.0.9"));
    }

    #[test]
    fn a_port_beside_an_address_is_taken_off() {
        let behind = |line: &str| seen("10.0.0.9", &[line], &["10.0.0.0/8"]);
        for (line, address) in [
            ("203.0.113.7:4711", "203.0.113.7"),
            ("1.2.3.4, 203.0.113.7:65535 , 10.0.0.8:80", "203.0.113.7"),
            ("[2001:db8::1]:99", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[::ffff:203.0.113.7]:99", "203.0.113.7"),
        ] {
            assert_eq!(behind(line).as_deref(), Some(address), "{line}");
        }
        for line in [
            "203.0.113.7:",
            "203.0.113.7:65536",
            "203.0.113.7:x",
            "203.0.113.7:1:2",
            "[2001:db8::1",
            "[203.0.113.7]",
            "_x:1",
        ] {
            assert_eq!(behind(line), None, "{line}");
        }
    }
}
