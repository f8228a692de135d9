//! A tenant's settings, and how an update merges into them.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::agent::AgentType;
use crate::error::{Code, Error};
use crate::limits::{MAX_AGENTS, MAX_DELEGATION_DEPTH, MAX_RETENTION_DAYS};

/// What an operator sets for a tenant. `null` means that the tenant has no rule of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema), schemars(rename = "Settings"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantSettings {
    /// Active agents it may have. If lowered below the current number, it only stops new ones.
    pub max_agents: Option<u32>,
    /// Longest chain of delegations, in links.
    pub max_delegation_depth: Option<u32>,
    /// Days an audit entry stays readable.
    pub audit_retention_days: Option<u32>,
    /// Types its agents may have. Existing agents keep theirs.
    pub allowed_agent_types: Option<Vec<AgentType>>,
}

/// A change of settings: an omitted field keeps its value, `null` clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema), schemars(rename = "SettingsPatch"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantSettingsPatch {
    /// Active agents it may have. If lowered below the current number, it only stops new ones.
    #[cfg_attr(feature = "schema", schemars(range(max = MAX_AGENTS)))]
    #[serde(default, deserialize_with = "given")]
    pub max_agents: Option<Option<u32>>,
    /// Longest chain of delegations, in links.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_DELEGATION_DEPTH)))]
    #[serde(default, deserialize_with = "given")]
    pub max_delegation_depth: Option<Option<u32>>,
    /// Days an audit entry stays readable.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_RETENTION_DAYS)))]
    #[serde(default, deserialize_with = "given")]
    pub audit_retention_days: Option<Option<u32>>,
    /// Types its agents may have, each once. Existing agents keep theirs.
    #[cfg_attr(feature = "schema", schemars(length(min = 1), extend("uniqueItems" = true)))]
    #[serde(default, deserialize_with = "given")]
    pub allowed_agent_types: Option<Option<Vec<AgentType>>>,
}

/// Tells a field that is `null` (`Some(None)`) from one that is absent (`None`).
pub(crate) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(d).map(Some)
}

impl TenantSettingsPatch {
    /// Applies this change to `into`.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a number out of range or an empty list of types.
    pub fn merge(self, into: &TenantSettings) -> Result<TenantSettings, Error> {
        let Self { max_agents, max_delegation_depth, audit_retention_days, allowed_agent_types } = self;
        in_range("settings.maxAgents", max_agents.flatten(), 0, MAX_AGENTS)?;
        in_range("settings.maxDelegationDepth", max_delegation_depth.flatten(), 1, MAX_DELEGATION_DEPTH)?;
        in_range("settings.auditRetentionDays", audit_retention_days.flatten(), 1, MAX_RETENTION_DAYS)?;
        if let Some(Some(types)) = &allowed_agent_types {
            let repeated = types.iter().enumerate().any(|(at, kind)| types.iter().take(at).any(|other| other == kind));
            if types.is_empty() || repeated {
                let problem = "must name at least one type, each once; null allows every type";
                return Err(Error::field(Code::InvalidField, "settings.allowedAgentTypes", problem));
            }
        }
        Ok(TenantSettings {
            max_agents: max_agents.unwrap_or(into.max_agents),
            max_delegation_depth: max_delegation_depth.unwrap_or(into.max_delegation_depth),
            audit_retention_days: audit_retention_days.unwrap_or(into.audit_retention_days),
            allowed_agent_types: allowed_agent_types.unwrap_or_else(|| into.allowed_agent_types.clone()),
        })
    }
}

fn in_range(field: &str, value: Option<u32>, least: u32, most: u32) -> Result<(), Error> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(Error::field(Code::InvalidField, field, format!("must be from {least} to {most}, not {value}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_merge() {
        let patch = |text: &str| serde_json::from_str::<TenantSettingsPatch>(text).unwrap();
        let first = patch(r#"{"maxAgents":200,"auditRetentionDays":365,"allowedAgentTypes":["autonomous","service"]}"#)
            .merge(&TenantSettings::default())
            .unwrap();
        let second = patch(r#"{"maxAgents":500}"#).merge(&first).unwrap();
        assert_eq!(second, TenantSettings { max_agents: Some(500), ..first.clone() });
        let third = patch(r#"{"maxAgents":null,"allowedAgentTypes":null}"#).merge(&second).unwrap();
        assert_eq!(third, TenantSettings { max_agents: None, allowed_agent_types: None, ..first });
    }

    #[test]
    fn bad_values_name_the_field() {
        for (text, field) in [
            (r#"{"maxDelegationDepth":0}"#, "settings.maxDelegationDepth"),
            (r#"{"auditRetentionDays":0}"#, "settings.auditRetentionDays"),
            (r#"{"allowedAgentTypes":[]}"#, "settings.allowedAgentTypes"),
            (r#"{"allowedAgentTypes":["service","service"]}"#, "settings.allowedAgentTypes"),
            (r#"{"maxAgents":4000000000}"#, "settings.maxAgents"),
        ] {
            let patch: TenantSettingsPatch = serde_json::from_str(text).unwrap();
            assert!(patch.merge(&TenantSettings::default()).unwrap_err().message().starts_with(field), "{text}");
        }
        assert!(serde_json::from_str::<TenantSettingsPatch>(r#"{"maxAgent":1}"#).is_err());
        assert!(serde_json::from_str::<TenantSettingsPatch>(r#"{"allowedAgentTypes":["robot"]}"#).is_err());
    }
}
