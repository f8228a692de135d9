//! What a webhook was told to be.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a message is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// `{type, timestamp, data}`, where `data` is the audit entry.
    #[default]
    Standard,
    /// `{text, blocks}`, as incoming webhooks of Slack take it.
    Slack,
}

/// Whether a webhook is told anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WebhookStatus {
    /// It is.
    Active,
    /// It is not: nothing new is kept for it, and what waits is not sent.
    Disabled,
}

/// What a webhook was told to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSpec {
    /// Where messages are sent, as [`target`](crate::webhook::target) accepts it.
    pub url: Box<str>,
    /// Which messages: names, `prefix.*` or `*`.
    pub events: Vec<Box<str>>,
    /// How they are written.
    pub format: WebhookFormat,
    /// For people to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Box<str>>,
    /// Whether it is switched off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}
