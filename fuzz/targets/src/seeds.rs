//! The seeds: inputs that reach far, as a start for the fuzzer. They name the small tenant's agents, so they are
//! generated here; `cargo test -p kavach-fuzz-targets write_seeds -- --ignored` writes them again.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::folder::Scratch;
use kavach_domain::agent::commands::RotateToken;
use kavach_domain::author::By;
use kavach_domain::budget::cost::Cost;
use kavach_domain::budget::hold::HoldTime;
use kavach_domain::budget::settlement::UsageRecord;
use kavach_domain::event::ChangeRecord;
use kavach_domain::idempotency::kept_reply::KeptReply;
use kavach_domain::idempotency::key::{IdempotencyKey, RequestKey};
use kavach_domain::tenant::{Caller, Command};
use kavach_domain::{AuditId, Event, Moment, Request, SecretHash, TraceId};
use kavach_fixture::small_tenant::Small;
use kavach_journal::{DataDir, JournalOptions, NewFolder};
use kavach_store::codec;

/// Rules for arguments of every kind.
const NAMED_ARGUMENTS: &str = r#"{"arguments":{"path":{"match":["/srv/**","^a+$"]},"edits[].a\\.b":{},"n":{"max":1e2,"min":-0.5,"absent":true},"o.x[][]":{"oneOf":["a",1.0,null,true]}},"otherArguments":"strings"}"#;

/// The target, the file's name, and its bytes.
type Seed = (&'static str, String, Vec<u8>);

fn seeds() -> Vec<Seed> {
    let small = Small::new();
    let mut all = Vec::new();
    let mut add = |target, named: Vec<(String, Vec<u8>)>| {
        all.extend(named.into_iter().map(|(name, bytes)| (target, name, bytes)));
    };
    add("authorize", texts(&authorize(&small)));
    add("commands", texts(&commands(&small)));
    add("patterns", texts(&patterns()));
    add("values", texts(&values(&small)));
    add("events", events(&small));
    add("journal", journals(&small));
    add("snapshot", snapshots(&small));
    all
}

fn texts(named: &[(&str, String)]) -> Vec<(String, Vec<u8>)> {
    named.iter().map(|(name, text)| ((*name).to_owned(), text.clone().into_bytes())).collect()
}

fn authorize(small: &Small) -> Vec<(&'static str, String)> {
    let (data, borrower) = (small.agent(0), small.agent(1));
    let plain = r#"{"action":"read","resource":"reports:2026:q1"}"#;
    vec![
        ("own", plain.to_owned()),
        ("plain", format!(r#"{{"agentId":"{data}","action":"read","resource":"mcp:filesystem:read","tokensCost":0.05,"idempotencyKey":"k-1","arguments":{{"path":"/srv/a","n":[1,-2.5e3,null,true]}},"context":{{"ip":"10.1.2.3","userAgent":"u"}}}}"#)),
        ("held", format!(r#"{{"agentId":"{data}","action":"read","resource":"reports:2026:q1","tokensCost":"0.5","hold":{{"ttlSeconds":600}},"idempotencyKey":"8e03978e-40d5-43dd"}}"#)),
        ("batch-held", format!(r#"{{"requests":[{{"agentId":"{data}","action":"read","resource":"reports:1","tokensCost":1,"hold":{{"ttlSeconds":1}},"idempotencyKey":"k"}},{{"agentId":"{data}","action":"read","resource":"reports:1","tokensCost":1,"hold":{{"ttlSeconds":1}},"idempotencyKey":"k"}}]}}"#)),
        ("spaced", format!(" {{\n\t\"agentId\" : \"{borrower}\", \"tenantId\": \"acme\", \"action\": \"read\", \"resource\": \"reports:2026:q2\", \"arguments\": [ ] }} ")),
        ("escaped", r#"{"action":"re\u0061d","resource":"a\/b:c","arguments":{"k":"\"\\\u00e9\ud83d\ude00"},"unknown":1}"#.to_owned()),
        ("nulls", r#"{"action":"*","resource":"*","agentId":null,"tenantId":null,"arguments":null,"tokensCost":null,"context":null}"#.to_owned()),
        ("batch", format!(r#"{{"requests":[{plain},{{"agentId":"{data}","action":"pay","resource":"pay:x","tokensCost":1e1}}]}}"#)),
        ("deep", format!(r#"{{"action":"a","resource":"b","arguments":{}1{}}}"#, "[".repeat(64), "]".repeat(64))),
        ("twice", r#"{"action":"a","action":"b","resource":"c","arguments":{"x":"1","x":"2"}}"#.to_owned()),
    ]
}

fn commands(small: &Small) -> Vec<(&'static str, String)> {
    let (data, borrower, service) = (small.agent(0), small.agent(1), small.agent(2));
    let decision = |place: u64| {
        let seq = small.journal.len() as u64 - place;
        let (Moment { at, .. }, _) =
            codec::decode_event(seq, &small.journal[usize::try_from(seq).unwrap() - 1]).unwrap();
        AuditId::derive(at, seq, small.tenant.id().tag())
    };
    let constraints = r#"{"maxCallsPerHour":10,"allowedArgPatterns":["/srv/**","^\\d+$"],"timeWindow":{"start":"22:00","end":"06:00"},"ipAllowlist":["10.0.0.0/8","2001:db8::/32","::1"],"requireApproval":false}"#;
    let agent = format!(
        "POST /v1/agents\n{{\"tenantId\":\"acme\",\"ownerId\":\" user-9 \",\"name\":\"Bot é\",\"type\":\"service\",\"permissions\":[{{\"resource\":\"mcp:*\",\"actions\":[\"*\"],\"constraints\":{constraints}}}],\"expiresAt\":\"2027-01-01T00:00:00+02:00\",\"metadata\":{{\"b\":1,\"a\":{{\"c\":[]}}}}}}"
    );
    let rotation = "POST /v1/agents/{id}/rotate\n{\"graceSeconds\":60}".to_owned();
    let delegation = format!(
        "POST /v1/delegations\n{{\"fromAgent\":\"{service}\",\"toAgent\":\"{borrower}\",\"permissions\":[{{\"resource\":\"x:*\",\"actions\":[\"read\"],\"constraints\":{constraints}}}],\"expiresAt\":\"2026-02-01T00:00:00Z\",\"maxDepth\":2}}"
    );
    let policy = format!(
        "POST /v1/policies\n{{\"agentId\":\"{data}\",\"limits\":{{\"maxCallsPerDay\":5,\"maxTokensCostPerMonth\":1.5e2}},\"action\":\"throttle\"}}"
    );
    let usage = |id| format!("POST /v1/usage\n{{\"agentId\":\"{data}\",\"tokensCost\":0.25,\"auditId\":\"{id}\"}}");
    let sequence = [
        agent.clone(),
        delegation.clone(),
        policy.clone(),
        rotation.clone(),
        usage(decision(2)),
        "POST /v1/policies/{id}/reset\n{\"period\":\"day\"}".to_owned(),
    ];
    vec![
        ("agent", agent),
        ("agent-change", "PATCH /v1/agents/{id}\n{\"ownerId\":\"u\",\"permissions\":[],\"expiresAt\":null,\"metadata\":null}".to_owned()),
        ("rotation", rotation),
        ("tenant", "POST /v1/tenants\n{\"name\":\"Globex\",\"slug\":\"globex-1\",\"settings\":{\"maxAgents\":200,\"maxDelegationDepth\":3,\"auditRetentionDays\":365,\"allowedAgentTypes\":[\"autonomous\",\"service\"]}}".to_owned()),
        ("tenant-change", "PATCH /v1/tenants/{tenant}\n{\"name\":\"New\",\"settings\":{\"maxAgents\":null,\"allowedAgentTypes\":[\"service\"]}}".to_owned()),
        ("key", "POST /v1/tenants/{tenant}/keys\n{\"name\":\"ci\"}".to_owned()),
        ("delegation", delegation),
        ("delegation-onward", format!("POST /v1/delegations\n{{\"fromAgent\":\"{borrower}\",\"toAgent\":\"{service}\",\"permissions\":[{{\"resource\":\"reports:2026:q1\",\"actions\":[\"read\"]}}]}}")),
        ("policy", policy),
        ("policy-change", "PATCH /v1/policies/{id}\n{\"limits\":{\"maxCallsPerDay\":null,\"maxCallsPerMonth\":0},\"action\":\"revoke\",\"status\":\"disabled\"}".to_owned()),
        ("reset", "POST /v1/policies/{id}/reset\n{\"period\":\"all\"}".to_owned()),
        ("hold-extension", "POST /v1/holds/{id}/extend\n{\"ttlSeconds\":86400}".to_owned()),
        ("reset-all", "POST /v1/policies/reset\n{\"tenantId\":\"acme\",\"period\":\"week\"}".to_owned()),
        ("policy-calendar", "POST /v1/policies\n{\"limits\":{\"maxCallsPerWeek\":5,\"maxTokensCostTotal\":1.5},\"timeZone\":\"Asia/Kolkata\",\"weekStartsOn\":\"sunday\",\"monthStartsOn\":28,\"thresholds\":[1,80,1000]}\n---\nPATCH /v1/policies/{id}\n{\"timeZone\":null,\"weekStartsOn\":null,\"monthStartsOn\":null,\"thresholds\":null}".to_owned()),
        ("budget", format!("POST /v1/budget/check\n{{\"agentId\":\"{data}\",\"tokensCost\":10.500001}}")),
        ("usage", format!("POST /v1/usage\n{{\"agentId\":\"{data}\",\"tokensCost\":1,\"calls\":3}}")),
        ("settlement", usage(decision(1))),
        ("settlement-of-a-denial", usage(decision(0))),
        ("queries", format!("GET /v1/agents\ntenantId=acme&userId=user-1&status=active&type=service&limit=2&cursor={data}\n---\nGET /v1/delegations\nfromAgent={data}&limit=1\n---\nGET /v1/policies\nagentId={data}&status=triggered")),
        ("audit-queries", format!("GET /v1/audit\nkind=admin&agentId={data}&since=2026-01-01T00:00:00Z&actions=agent.create,tenant.update&result=allowed&offset=5\n---\nGET /v1/audit/export\nformat=csv&until=2026-02-01T00%3A00%3A00%2B01:00\n---\nDELETE /v1/tenants/{{tenant}}\nconfirm=acme")),
        ("authzen-evaluation", format!("POST /access/v1/evaluation\n{{\"subject\":{{\"type\":\"agent\",\"id\":\"{data}\",\"properties\":{{\"a\":1}}}},\"action\":{{\"name\":\"read\",\"properties\":{{\"path\":\"/srv/a\"}}}},\"resource\":{{\"type\":\"mcp\",\"id\":\"filesystem:read\"}},\"context\":{{\"ip\":\"10.1.2.3\",\"userAgent\":\"u\",\"tenantId\":\"acme\",\"tokensCost\":0.5,\"time\":null}},\"foo\":[]}}")),
        ("authzen-evaluations", format!("POST /access/v1/evaluations\n{{\"subject\":{{\"type\":\"agent\",\"id\":\"{borrower}\"}},\"action\":{{\"name\":\"read\"}},\"options\":{{\"evaluations_semantic\":\"deny_on_first_deny\"}},\"evaluations\":[{{\"resource\":{{\"type\":\"reports\",\"id\":\"2026:q1\"}}}},{{}},{{\"subject\":{{\"type\":\"user\",\"id\":\"x\"}},\"resource\":{{\"type\":\"urn:x\",\"id\":\"100%\"}}}}]}}")),
        ("authzen-searches", format!("POST /access/v1/search/subject\n{{\"subject\":{{\"type\":\"agent\"}},\"action\":{{\"name\":\"read\"}},\"resource\":{{\"type\":\"reports\",\"id\":\"2026:q1\"}},\"page\":{{\"limit\":2}}}}\n---\nPOST /access/v1/search/resource\n{{\"subject\":{{\"type\":\"agent\",\"id\":\"{borrower}\"}},\"action\":{{\"name\":\"read\"}},\"resource\":{{\"type\":\"reports\"}}}}\n---\nPOST /access/v1/search/action\n{{\"subject\":{{\"type\":\"agent\",\"id\":\"{service}\"}},\"resource\":{{\"type\":\"a\",\"id\":\"b\"}}}}")),
        ("sequence", sequence.join("\n---\n")),
    ]
}

fn patterns() -> Vec<(&'static str, String)> {
    let lines = |lines: [&str; 7]| lines.join("\n");
    vec![
        ("stars", lines(["mcp:*", "mcp:*:read", "mcp:github:read", "read", "/srv/**", "/srv/a/b", "[a-z]+$"])),
        ("inner", lines(["a:*:c:*", "a:b:c:d:*", "a:b:c:d:e", "*", "*/x*", "a/xy", "\\d{1,3}(?:x|y)*"])),
        ("any", lines(["*", "*:*", "a", "write", "***.m*d", "docs/a/b.md", "(a|b)*c"])),
        ("classes", lines(["a", "b", "c", "d", "{[a-c]?,*}.tx[!a]", "b1.txt", "a|b"])),
        ("url", lines(["a", "b", "c", "d", "http{,s}://*.example.com:*/**", "https://a.example.com:8080/x?y#z", "a"])),
        ("mixed", lines(["foo*", "a::b", "é:ü", "é", "*a*b*c**d", "aabbccd/d", "\\pL.{9}{9}"])),
    ]
}

fn values(small: &Small) -> Vec<(&'static str, String)> {
    vec![
        ("agent-id", small.agent(0).to_string()),
        ("tenant-id", small.tenant.id().to_string()),
        ("slug", "acme-2".to_owned()),
        ("time", "2024-02-29T23:59:60.999+05:30".to_owned()),
        ("cost", "12.500000".to_owned()),
        ("cost-with-exponent", "1.25e-4".to_owned()),
        ("name", "  Bot é \u{200b}\u{7f}x".to_owned()),
        ("token", kavach_domain::Secret::agent_token(small.tenant.id(), [5; 32]).reveal().to_owned()),
        ("constraints", r#"{"maxCallsPerHour":10,"allowedArgPatterns":["/srv/**","^a+$"],"timeWindow":{"start":"22:00","end":"06:00"},"ipAllowlist":["10.1.2.3/8","::ffff:10.0.0.1","2001:db8::/32"],"requireApproval":true}"#.to_owned()),
        ("named-arguments", NAMED_ARGUMENTS.to_owned()),
        ("permissions", r#"[{"resource":"a:*","actions":["*","read"],"constraints":{}},{"resource":"*","actions":["x"]}]"#.to_owned()),
        ("arguments", "{ \"a\" : [ \"x y\" , { \"b\" : \"\\\"\" } , 1.0e5 ] , \"c\" : null }".to_owned()),
    ]
}

fn events(small: &Small) -> Vec<(String, Vec<u8>)> {
    let mut named: Vec<_> =
        (1..).zip(&small.journal).map(|(seq, bytes)| (format!("event-{seq:02}"), bytes.clone())).collect();
    let mut request = Request::new("read", "reports:q1").unwrap().for_agent(small.agent(0));
    request.trace = TraceId::from_bytes(*b"a trace's 16 bts");
    let mut traced = Small::new();
    traced.authorize(&Caller::Operator, &request);
    named.extend(traced.journal.pop().map(|bytes| ("traced".to_owned(), bytes)));
    let (_, more) = held();
    named.extend(more.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)));
    named
}

/// The small tenant after a held call, its extension and its release, and a rotation, all but the extension with an
/// idempotency key; and these events.
fn held() -> (Small, Vec<(&'static str, Vec<u8>)>) {
    let mut small = Small::new();
    let key = |text: &str| IdempotencyKey::parse("key", text).unwrap();
    let mut request = Request::new("read", "reports:q1").unwrap().for_agent(small.agent(0));
    request.cost = Some(Cost::from_millionths(500_000));
    let request = request.holding(600).unwrap().with_key(key("held"), false);
    let moment = small.tenant.next_moment(small.now);
    small.authorize(&Caller::Operator, &request);
    let id = AuditId::derive(moment.at, moment.seq, small.tenant.id().tag());
    let (moment, time) = (small.tenant.next_moment(small.now), HoldTime::parse("time", 900).unwrap());
    let (extended, _) = small.tenant.decide_extension(By::Operator, id, time, moment).unwrap();
    small.happen(&Event::Used(extended));
    let used = |small: &Small, text: &str| {
        let key = RequestKey::new(key(text), &[b"POST", text.as_bytes()]);
        small.tenant.check_new(&Caller::Operator, &key, small.now).ok()
    };
    let released =
        small.tenant.decide_release(By::Operator, id, small.tenant.next_moment(small.now)).unwrap().0.unwrap();
    small.happen(&Event::Used(UsageRecord { key: used(&small, "release"), ..released }));
    let moment = small.tenant.next_moment(small.now);
    let rotation = RotateToken::new(small.agent(2), SecretHash::of("another"), 60).unwrap();
    let (change, _) = rotation.decide(&small.tenant, By::Operator, moment).unwrap();
    let mut record = ChangeRecord::new(By::Operator, change.unwrap());
    record.key = used(&small, "rotate");
    record.kept = KeptReply::of(&small.tenant, moment, &record);
    small.happen(&Event::Changed(record));
    let last = small.journal.len() - 4;
    let names = ["held-once", "extended", "released-once", "rotated-once"];
    let events = names.into_iter().zip(small.journal[last..].to_vec()).collect();
    (small, events)
}

/// The events in segments as the server writes them, all in one input.
fn journals(small: &Small) -> Vec<(String, Vec<u8>)> {
    let mut made = Vec::new();
    for (name, segment_bytes, events) in [("one-segment", 1 << 20, 3), ("segments", 500, 6)] {
        let scratch = Scratch::new();
        let data = DataDir::open(scratch.path()).unwrap();
        let options = JournalOptions { segment_bytes };
        let first = [small.journal[0].clone()];
        let new = NewFolder { name: "t", label: b"{}", tenant: [7; 16], now_ms: 1, events: &first, options };
        let mut journal = data.create_tenant(new).unwrap();
        for (seq, event) in (2..=events).zip(&small.journal[1..]) {
            journal.append(seq, |buffer| buffer.extend_from_slice(event)).unwrap();
            journal.flush().unwrap();
            if seq % 2 == 0 {
                let point = journal.begin_sync().run().unwrap();
                journal.finish_sync(point, 2).unwrap();
            }
            journal.rotate_if_due(3).unwrap();
        }
        journal.close(4).unwrap();
        let mut files: Vec<_> =
            fs::read_dir(data.path().join("t")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "journal"));
        files.sort();
        let bytes: Vec<u8> = files.iter().flat_map(|file| fs::read(file).unwrap()).collect();
        // Unchanged, with right checksums, with all but the last sealed, and after a snapshot of event 2.
        for (kind, flags) in [("as-is", 0), ("right", 1), ("sealed", 0b1000), ("after-snapshot", 0b100_0001)] {
            made.push((format!("{name}-{kind}"), [&[flags], &bytes[..]].concat()));
        }
        if name == "one-segment" {
            let sealed = zstd::encode_all(&bytes[..], 1).unwrap();
            made.push((format!("{name}-zst"), [&[0b1_0000], &sealed[..]].concat()));
        }
    }
    made
}

fn snapshots(small: &Small) -> Vec<(String, Vec<u8>)> {
    let state = codec::encode_state(&small.tenant.state()).unwrap();
    let mut first = kavach_domain::Tenant::default();
    let (moment, event) = codec::decode_event(1, &small.journal[0]).unwrap();
    first.apply(moment, &event);
    let little = codec::encode_state(&first.state()).unwrap();
    let held = codec::encode_state(&held().0.tenant.state()).unwrap();
    let mut header = vec![1u8];
    header.write_all(&[0; 46]).unwrap();
    vec![
        ("state".to_owned(), [&[2], &state[..]].concat()),
        ("little-state".to_owned(), [&[2], &little[..]].concat()),
        ("state-held".to_owned(), [&[2], &held[..]].concat()),
        ("file".to_owned(), [&header[..], &little[..]].concat()),
        ("cut".to_owned(), [&[0], &b"KAVACHS\n"[..], &[1, 0]].concat()),
    ]
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

#[test]
#[ignore = "writes files of the repository"]
fn write_seeds() {
    for (target, name, bytes) in seeds() {
        let folder = folder().join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn the_seeds_are_those_made_here() {
    for (target, name, bytes) in seeds() {
        let file = folder().join(target).join(&name);
        let kept = fs::read(&file).unwrap_or_else(|problem| panic!("{}: {problem}", file.display()));
        assert!(kept == bytes, "{} is of another day; write the seeds anew", file.display());
    }
}
