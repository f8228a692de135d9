//! The text of a message, made from the event that it tells of. The same event always gives the same text.

use std::cmp::Reverse;

use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::budget::crossed::Crossed;
use crate::domain::budget::threshold::CrossedView;
use crate::domain::text::shown_within;
use crate::domain::webhook::WebhookFormat;
use crate::domain::webhook::message_type::MessageType;
use crate::domain::{AuditEntry, Timestamp};

/// Bytes of a line in a Slack message: it takes 3,000 characters in a block, and people read less.
const MAX_LINE_BYTES: usize = 1_000;
/// Thresholds that a Slack message names below the first: a block has ten elements.
const MAX_SHOWN_THRESHOLDS: usize = 6;

/// A message as Standard Webhooks recommends.
#[derive(Serialize)]
struct StandardBody<'a> {
    r#type: MessageType,
    timestamp: Timestamp,
    data: Data<'a>,
}

/// The entry, with what only the message says.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(flatten)]
    entry: &'a AuditEntry,
    /// The thresholds that the charge reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    thresholds: Vec<CrossedView>,
}

/// The body of a message about that entry of the audit trail, and the thresholds that its event reached.
pub fn body(format: WebhookFormat, kind: MessageType, entry: &AuditEntry, crossed: &[Crossed]) -> Vec<u8> {
    let thresholds: Vec<_> = crossed.iter().map(CrossedView::from).collect();
    let body = match format {
        WebhookFormat::Standard => serde_json::to_vec(&StandardBody {
            r#type: kind,
            timestamp: entry.timestamp,
            data: Data { entry, thresholds },
        }),
        WebhookFormat::Slack => serde_json::to_vec(&slack(kind, entry, &thresholds)),
    };
    // It is plain data: nothing in it can fail.
    body.unwrap_or_default()
}

/// Callers' text is `plain_text`, in which Slack finds no mention, no link and no markup.
fn slack(kind: MessageType, entry: &AuditEntry, thresholds: &[CrossedView]) -> Value {
    let tenant = entry.tenant_id.folder_name();
    let agent = entry.agent_id.map(|id| id.to_string());
    let by = entry.key_name.as_deref().or(entry.by.as_deref()).or(agent.as_deref()).unwrap_or("the server");
    let reached = |crossed: &CrossedView| {
        let CrossedView { policy_id, limit, percent, used, max } = crossed;
        format!("{percent}% of {limit} of policy {policy_id} reached: {used} of {max} used")
    };
    let mut thresholds: Vec<_> = thresholds.iter().collect();
    thresholds.sort_by_key(|crossed| Reverse(crossed.percent));
    let mut reached = thresholds.into_iter().map(reached);
    let headline = reached.next().unwrap_or_else(|| format!("{} {}", kind.meaning(), entry.resource));
    let text = shown_within(&headline, MAX_LINE_BYTES);
    let mut facts = vec![format!("{} in tenant {tenant}, by {by}", kind.as_str())];
    facts.extend(entry.reason.as_deref().map(str::to_owned));
    facts.extend(reached.take(MAX_SHOWN_THRESHOLDS));
    facts.push(format!("{}, {}", entry.timestamp, entry.id));
    let plain =
        |text: &str| json!({ "type": "plain_text", "text": shown_within(text, MAX_LINE_BYTES), "emoji": false });
    let context: Vec<_> = facts.iter().map(|text| plain(text)).collect();
    json!({
        // What a notification shows, where markup counts.
        "text": text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        "blocks": [{ "type": "section", "text": plain(&text) }, { "type": "context", "elements": context }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PolicyId;
    use crate::domain::author::By;
    use crate::domain::budget::calendar::Span;
    use crate::domain::budget::window::Counted;
    use crate::domain::event::{Change, ChangeRecord};
    use crate::domain::{Event, Moment, TenantId};

    fn entry(reason: &str) -> AuditEntry {
        let change =
            ChangeRecord { reason: Some(reason.into()), ..ChangeRecord::new(By::Operator, Change::TenantSuspended) };
        AuditEntry::of(
            TenantId::DEFAULT,
            Moment::new(Timestamp::from_millis(1_700_000_000_000), 7),
            &Event::Changed(change),
        )
    }

    #[test]
    fn a_standard_body_has_the_entry() {
        let body = body(WebhookFormat::Standard, MessageType::TenantSuspended, &entry("moved"), &[]);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["type"], "tenant.suspended");
        assert_eq!(body["timestamp"], "2023-11-14T22:13:20.000Z");
        assert_eq!((&body["data"]["action"], &body["data"]["reason"]), (&json!("tenant.suspend"), &json!("moved")));
    }

    #[test]
    fn a_slack_message_says_which_threshold_was_reached() {
        let policy = PolicyId::derive(Timestamp::from_millis(1_700_000_000_000), 1, TenantId::DEFAULT.tag());
        let crossed = |percent| {
            let (period, of) = (Span::Month, Counted::Cost);
            Crossed { policy, period, of, percent, used: 16_400_000, max: 20_000_000 }
        };
        let crossed = [crossed(50), crossed(80)];
        let body = body(WebhookFormat::Slack, MessageType::BudgetThreshold, &entry("moved"), &crossed);
        let body: Value = serde_json::from_slice(&body).unwrap();
        let text = body["text"].as_str().unwrap();
        assert!(text.starts_with("80% of maxTokensCostPerMonth of policy pol_"), "{text}");
        assert!(text.ends_with(" reached: 16.4 of 20 used"), "{text}");
        assert!(body["blocks"][1]["elements"][2]["text"].as_str().unwrap().starts_with("50% of "));
    }

    #[test]
    fn text_of_callers_calls_nobody_in_slack() {
        let body = body(WebhookFormat::Slack, MessageType::TenantSuspended, &entry("<!channel> & <@U1>"), &[]);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert!(!body["text"].as_str().unwrap().contains('<'));
        let elements = body["blocks"][1]["elements"].as_array().unwrap();
        assert!(elements.iter().all(|element| element["type"] == "plain_text"));
        assert_eq!(elements[1]["text"], "<!channel> & <@U1>");
    }
}
