//! The bytes of an event.

use kavach_domain::audit::entry::AuditKinds;
use kavach_domain::{AuditEntry, AuditFilter, Moment};
use kavach_fixture::small_tenant::{Small, readable, round_trip};
use kavach_store::codec;

/// Bytes read as an event and applied to the small tenant. Anyone who can write to the journal can put any event there,
/// so the state need not be sound afterwards; but nothing panics, and the event is written back byte for byte.
pub fn events(bytes: &[u8]) {
    let Ok((moment, event)) = codec::decode_event(0, bytes) else { return };
    let mut written = Vec::new();
    codec::encode_event(moment, &event, &mut written).unwrap();
    // What fits in a frame takes at most a few times its size when written.
    assert!(written.len() <= 64 * bytes.len() + 1_024, "{} bytes of {}", written.len(), bytes.len());
    let (moment_again, again) = codec::decode_event(0, &written).unwrap();
    assert_eq!((moment_again, &again), (moment, &event));

    let mut small = Small::new();
    let moment = Moment { seq: small.tenant.seq() + 1, at: small.tenant.next_moment(moment.at).at, ..moment };
    small.tenant.apply(moment, &event);
    let entry = AuditEntry::of(small.tenant.id(), moment, &event);
    readable(&serde_json::to_string(&entry).unwrap());
    let kinds = [AuditKinds::Decision, AuditKinds::Usage, AuditKinds::Admin, AuditKinds::All];
    let tenant = small.tenant.id();
    let seen = kinds.map(|kind| AuditFilter { kind, ..AuditFilter::default() }.matches(tenant, moment.at, &event));
    assert_eq!(seen.iter().filter(|seen| **seen).count(), 2, "an event is of one kind, and of all");
    if small.tenant.validate().is_ok() {
        round_trip(&small.tenant);
        super::folder::use_it(&small.tenant);
    }
}
