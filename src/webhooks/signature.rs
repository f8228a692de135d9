//! Signatures as Standard Webhooks 1.0 has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::signing_key::SigningKey;
use crate::domain::limits::OLD_SECRET_MS;
use crate::domain::webhook::WebhookProfile;
use crate::domain::{MessageId, Timestamp};

/// The headers of one attempt. Neither the id nor the time holds a full stop, so what is signed reads in one way only.
pub fn headers(
    key: &SigningKey,
    profile: &WebhookProfile,
    message: MessageId,
    now: Timestamp,
    body: &[u8],
) -> [(&'static str, String); 3] {
    let (id, seconds) = (message.to_string(), now.seconds().to_string());
    let signed = |rotation| {
        let secret = key.secret(profile.id, rotation);
        let mac = secret.sign(&[id.as_bytes(), b".", seconds.as_bytes(), b".", body]);
        format!("v1,{}", STANDARD.encode(mac))
    };
    let mut signature = signed(profile.rotation);
    // For a while after a rotation, an endpoint that still has the old secret takes messages too.
    let has_old = profile.rotated_at.is_some_and(|at| now.millis() - at.millis() < OLD_SECRET_MS);
    if let Some(old) = profile.rotation.checked_sub(1).filter(|_| has_old) {
        signature = format!("{signature} {}", signed(old));
    }
    [("webhook-id", id), ("webhook-timestamp", seconds), ("webhook-signature", signature)]
}
