//! Audit retention: exact on reading, and whole segments removed from disk, with tenants that have a past.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use kavach::domain::author::By;
use kavach::domain::event::ChangeRecord;
use kavach::domain::text::Slug;
use kavach::domain::time::DAY_MS;
use kavach::domain::{AuditId, Change, Code, Event, Moment, Record, TenantId, TenantSettings, Timestamp};
use kavach::journal::{DataDir, JournalOptions, NewFolder};
use kavach::store::codec;
use serde_json::{Value, json};

use crate::harness::{Options, Server, eventually};
use crate::world::call;

/// Days of the past, each with some decisions in its own segment.
pub const DAYS: i64 = 60;
pub const A_DAY: u64 = 4;

pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn encoded(at: i64, event: &Event<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_event(Moment::new(Timestamp::from_millis(at), 0), event, &mut bytes).unwrap();
    bytes
}

/// A tenant with a history. Returns its id, and its decisions' times with their audit ids.
pub fn with_a_past(data: &DataDir, slug: &str, days: Option<u32>, now: i64) -> (TenantId, Vec<(i64, String)>) {
    let began = now - DAYS * DAY_MS;
    let id = TenantId::generate(Timestamp::from_millis(began), [slug.as_bytes()[0]; 10]).unwrap();
    let created = Change::TenantCreated {
        id,
        name: slug.into(),
        slug: Some(Slug::parse("slug", slug).unwrap()),
        settings: TenantSettings { audit_retention_days: days, ..TenantSettings::default() },
    };
    let created = encoded(began, &Event::Changed(ChangeRecord::new(By::Operator, created)));
    let label = json!({ "id": id.to_string(), "slug": slug, "name": slug }).to_string();
    let mut journal = data
        .create_tenant(NewFolder {
            name: &id.to_string(),
            label: label.as_bytes(),
            tenant: id.bytes(),
            now_ms: began,
            events: &[created],
            options: JournalOptions { segment_bytes: 100 },
        })
        .unwrap();
    let record = Record {
        agent: None,
        owner: None,
        action: "read",
        resource: "docs:1",
        arguments: None,
        granted_by: None,
        code: Some(Code::AgentNotFound),
        reason: None,
        rate_limited: false,
        revokes: false,
        policy: None,
        cost: None,
        ip: None,
        user_agent: None,
        micros: 1,
        trace: None,
        extras: None,
    };
    let mut made = Vec::new();
    for day in 0..DAYS {
        for n in 0..A_DAY {
            let (at, seq) = (began + day * DAY_MS + 1 + n as i64, journal.next_seq());
            let bytes = encoded(at, &Event::Decided(record.clone()));
            journal.append(seq, |buffer| buffer.extend_from_slice(&bytes)).unwrap();
            made.push((at, AuditId::derive(Timestamp::from_millis(at), seq, id.tag()).to_string()));
        }
        journal.flush().unwrap();
        let point = journal.begin_sync().run().unwrap();
        journal.finish_sync(point, began + day * DAY_MS + 10).unwrap();
        journal.rotate_if_due(began + (day + 1) * DAY_MS).unwrap();
    }
    journal.close(now).unwrap();
    (id, made)
}

fn ids(entries: &[Value]) -> Vec<String> {
    entries.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

/// First sequence numbers of the journal files in a folder.
pub fn segments(folder: &Path) -> Vec<u64> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut firsts: Vec<u64> = names
        .filter(|name| name.contains(".journal") && !name.ends_with(".tmp"))
        .map(|name| name.split('.').next().unwrap().parse().unwrap())
        .collect();
    firsts.sort_unstable();
    firsts.dedup();
    firsts
}

#[test]
fn retention_is_exact_on_reading_and_gives_the_disk_its_space_back() {
    let root = tempfile::tempdir().unwrap();
    let now = now();
    let data = DataDir::open(root.path()).unwrap();
    let (short, of_short) = with_a_past(&data, "short", Some(30), now);
    let (long, of_long) = with_a_past(&data, "long", None, now);
    drop(data);
    let mut server = Server::start_with(Options { data_dir: Some(root.path().to_owned()), ..Options::default() });
    let operator = server.operator();
    // The past is a day apart, and no test takes a day, so we know what is kept.
    let is_kept = |at: i64| at >= now - 30 * DAY_MS + DAY_MS / 2;
    let split = of_short.iter().filter(|(at, _)| !is_kept(*at)).count();
    assert!((DAYS as usize / 2 - 1) * A_DAY as usize <= split && split < of_short.len());
    let expected: Vec<_> = of_short[split..].iter().map(|(_, id)| id.clone()).collect();
    let whole: Vec<_> = of_long.iter().map(|(_, id)| id.clone()).collect();
    let check = || {
        let newest_first = |mut ids: Vec<String>| {
            ids.reverse();
            ids
        };
        assert_eq!(newest_first(ids(&operator.trail("tenantId=short&result=denied"))), expected);
        assert_eq!(newest_first(ids(&operator.trail("tenantId=long"))), whole);
        let mut both = [expected.clone(), whole.clone()].concat();
        both.sort();
        assert_eq!(newest_first(ids(&operator.trail("result=denied"))), both, "each tenant by its own retention");
        assert_eq!(ids(&operator.get("/v1/audit/export?tenantId=short&result=denied").items()), expected);
        let mut exported = ids(&operator.get("/v1/audit/export?result=denied").items());
        exported.sort();
        assert_eq!(exported, both);
        let since = Timestamp::from_millis(of_long[7].0).to_string();
        assert_eq!(ids(&operator.get(&format!("/v1/audit/export?tenantId=long&since={since}")).items()), whole[7..]);
        let until = format!("until={}", Timestamp::from_millis(of_long[9].0));
        let part = operator.get(&format!("/v1/audit/export?tenantId=long&since={since}&{until}"));
        assert_eq!(ids(&part.items()), whole[7..9]);
        for (_, gone) in [&of_short[0], &of_short[split - 1]] {
            operator.get(&format!("/v1/audit/{gone}")).problem(404, "AUDIT_ENTRY_NOT_FOUND");
        }
        for kept in [&expected[0], &whole[0]] {
            operator.get(&format!("/v1/audit/{kept}")).expect(200);
        }
    };
    check();
    // Segments go once two snapshots cover them, and each snapshot needs something to cover.
    let agent = operator.agent("short", json!([{ "resource": "docs:*", "actions": ["read"] }]));
    let folder = server.folder(&short.to_string());
    let first_kept = 2 + split as u64;
    let left = eventually("old segments are removed", || {
        operator.granted(call(&agent.id));
        operator.post("/v1/snapshot", json!({})).expect(200);
        let firsts = segments(&folder);
        (firsts[0] > first_kept - A_DAY - 1).then_some(firsts)
    });
    assert!(left[0] <= first_kept, "nothing that is shown is gone: {left:?}");
    assert_eq!(segments(&server.folder(&long.to_string()))[0], 1, "kept for ever");
    check();
    let checkpoint = operator.get("/v1/audit/checkpoint?tenantId=short").expect(200);
    server.stop();
    let output = Command::new(env!("CARGO_BIN_EXE_kavach"))
        .args(["audit", "verify", "--json", "--tenant", "short", "--data-dir"])
        .arg(root.path())
        .args(["--checkpoint", &checkpoint.to_string()])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    assert_eq!((&report["firstSeq"], &report["checkpoint"]), (&json!(left[0]), &json!("passed")));
    server.start_again();
    let operator = server.operator();
    assert_eq!(operator.get("/v1/audit/export?tenantId=short&result=denied").items().len(), expected.len());
}
