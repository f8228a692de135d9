//! The labels that agents had at the time of each event.
//!
//! A decision does not record its agent's labels. An update records what was there before it, so the labels at an event
//! are those before the first later update that changed them, or else today's.

use std::collections::HashMap;

use crate::agent::Agent;
use crate::agent::labels::Labels;
use crate::event::{Before, Change, ChangeRecord};
use crate::id::AgentId;

/// The labels with some keys of one tenant's agents, today and before each change.
#[derive(Debug, Default)]
pub struct LabelHistory {
    /// The keys. Others are not kept: an agent may have many, and change them often.
    keys: Vec<Box<str>>,
    today: HashMap<AgentId, Labels>,
    /// The numbers of the events that changed an agent's labels, ascending, with those that it had before.
    before: HashMap<AgentId, Vec<(u64, Labels)>>,
}

impl LabelHistory {
    /// A history of the labels with these keys.
    pub fn of(keys: Vec<Box<str>>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// Takes the labels that agents have today.
    pub fn add_today<'a>(&mut self, agents: impl IntoIterator<Item = &'a Agent>) {
        let Self { keys, today, before: _ } = self;
        let labelled = agents.into_iter().map(|agent| (agent.profile.id, &agent.profile.spec.labels));
        // The agent's own set of labels is shared, so it takes no memory.
        let asked = labelled.filter(|(_, labels)| keys.iter().any(|key| labels.get(key).is_some()));
        today.extend(asked.map(|(id, labels)| (id, labels.clone())));
    }

    /// Takes a change, which event `seq` made. Changes come oldest first, up to the last one that today's labels show or
    /// later.
    pub fn add_change(&mut self, seq: u64, record: &ChangeRecord) {
        let Change::AgentUpdated { agent, spec } = &record.change else { return };
        // Versions without labels recorded nothing from before, and no labels after it either.
        let before = match record.before.as_deref() {
            Some(Before::Agent(before)) => kept(&self.keys, &before.labels),
            _ => Labels::default(),
        };
        if before != kept(&self.keys, &spec.labels) {
            self.before.entry(*agent).or_default().push((seq, before));
        }
    }

    /// The labels that the agent had at event `seq`; `None` if it had none.
    pub fn at(&self, agent: AgentId, seq: u64) -> Option<&Labels> {
        let later = self.before.get(&agent).and_then(|before| before.get(before.partition_point(|(at, _)| *at <= seq)));
        later.map(|(_, labels)| labels).or_else(|| self.today.get(&agent)).filter(|labels| !labels.is_empty())
    }

    /// Adds what another history of the same tenant knows of today.
    pub fn merge_today(&mut self, other: Self) {
        self.today.extend(other.today);
    }
}

fn kept(keys: &[Box<str>], labels: &Labels) -> Labels {
    let kept = keys.iter().filter_map(|key| Some((String::from(&**key), labels.get(key)?.to_owned())));
    kept.collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{AgentSpec, AgentType};
    use crate::author::By;
    use crate::id::TenantTag;
    use crate::time::Timestamp;

    fn labels(team: &str) -> Labels {
        if team.is_empty() { Labels::default() } else { vec![("team".to_owned(), team.to_owned())].into() }
    }

    fn update(agent: AgentId, before: Option<&str>, after: &str) -> ChangeRecord {
        let spec = |team: &str| {
            Box::new(AgentSpec {
                owner: "ana".into(),
                name: "bot".into(),
                kind: AgentType::Service,
                permissions: Default::default(),
                expires_at: None,
                metadata: None,
                labels: labels(team),
            })
        };
        let before = before.map(|team| Box::new(Before::Agent(spec(team))));
        ChangeRecord { before, ..ChangeRecord::new(By::Operator, Change::AgentUpdated { agent, spec: spec(after) }) }
    }

    #[test]
    fn labels_are_those_before_the_next_change_or_todays() {
        let [one, other, none] = [1, 2, 3].map(|seq| AgentId::derive(Timestamp::default(), seq, TenantTag(1)));
        let mut history = LabelHistory::of(vec!["team".into()]);
        history.today.extend([(one, labels("web")), (other, labels("data"))]);
        history.add_change(10, &update(one, Some(""), "data"));
        history.add_change(12, &update(one, Some("data"), "data"));
        history.add_change(20, &update(one, Some("data"), "web"));
        // As a version without labels recorded it.
        history.add_change(5, &update(other, None, ""));
        let team = |agent, seq| history.at(agent, seq).and_then(|labels| labels.get("team"));
        assert_eq!(
            [9, 10, 12, 19, 20, 99].map(|seq| team(one, seq)),
            [None, Some("data"), Some("data"), Some("data"), Some("web"), Some("web")]
        );
        assert_eq!([1, 99].map(|seq| team(other, seq)), [Some("data"); 2]);
        assert_eq!(team(none, 9), None);
        assert_eq!(history.before.len(), 1, "an update that leaves the labels takes no memory");
        let mut others = LabelHistory::of(vec!["region".into()]);
        others.add_change(10, &update(one, Some(""), "data"));
        assert!(others.before.is_empty(), "nor does one of other labels");
    }
}
