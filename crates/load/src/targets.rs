//! The targets of a load: tenants, their agents and the agents' tokens, and the file that keeps them.

use std::fs::{self, File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use kavach_domain::secret_scan::hide_secrets;

/// The tenants and agents that a run asks for.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Targets {
    /// The tenants.
    pub tenants: Vec<TargetTenant>,
}

/// One tenant among the targets.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetTenant {
    /// The id.
    pub id: String,
    /// The slug.
    pub slug: String,
    /// The agents.
    pub agents: Vec<TargetAgent>,
}

/// One agent among the targets. It has no `Debug`, which would show the token.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetAgent {
    /// The id.
    pub id: String,
    /// The token.
    pub token: String,
}

impl Targets {
    /// The tokens of all agents, in an order that takes an agent of each tenant in turn.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        let most = self.tenants.iter().map(|tenant| tenant.agents.len()).max().unwrap_or(0);
        (0..most).flat_map(|n| self.tenants.iter().filter_map(move |tenant| Some(tenant.agents.get(n)?.token.as_str())))
    }

    /// Reads the file.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let problem =
            |problem: &dyn std::fmt::Display| format!("the targets of {} can't be read: {problem}", path.display());
        let bytes = fs::read(path).map_err(|error| problem(&error))?;
        let targets: Self = serde_json::from_slice(&bytes).map_err(|error| {
            // A value in the wrong place may be a token.
            problem(&hide_secrets(&error.to_string()))
        })?;
        if targets.tokens().next().is_none() {
            return Err(problem(&"there is no agent in it"));
        }
        // They go into a header as they are.
        if let Some(at) =
            targets.tokens().position(|token| token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(problem(&format_args!("the token of agent number {} is empty or not visible ASCII", at + 1)));
        }
        Ok(targets)
    }
}

/// A file for targets, which only its owner may read.
pub struct TargetFile(File);

impl TargetFile {
    /// Makes the file, or empties it. Done before anything is made that would be lost without it.
    ///
    /// # Errors
    /// A sentence that says why it can't be written.
    pub fn create(path: &Path) -> Result<Self, String> {
        let owner_only = 0o600;
        let create = || {
            let file = File::options().write(true).create(true).truncate(true).mode(owner_only).open(path)?;
            // An existing file kept its mode.
            file.set_permissions(Permissions::from_mode(owner_only))?;
            Ok(file)
        };
        create().map(Self).map_err(|problem: std::io::Error| unwritable(path, &problem))
    }

    /// Writes the targets.
    ///
    /// # Errors
    /// A sentence that says why it can't be written.
    pub fn write(self, path: &Path, targets: &Targets) -> Result<(), String> {
        let mut out = BufWriter::new(self.0);
        let written = serde_json::to_writer(&mut out, targets).map_err(std::io::Error::from);
        written.and_then(|()| writeln!(out)).and_then(|()| out.flush()).map_err(|problem| unwritable(path, &problem))
    }
}

fn unwritable(path: &Path, problem: &std::io::Error) -> String {
    format!("the targets can't be written to {}: {problem}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(slug: &str, tokens: &[&str]) -> TargetTenant {
        let agent = |token: &&str| TargetAgent { id: format!("agt_{token}"), token: (*token).to_owned() };
        TargetTenant { id: format!("tnt_{slug}"), slug: slug.to_owned(), agents: tokens.iter().map(agent).collect() }
    }

    #[test]
    fn what_was_saved_is_read_again_by_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("targets.json");
        fs::write(&path, "of an earlier run").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let targets = Targets { tenants: vec![tenant("a", &["kv_1", "kv_2"]), tenant("b", &["kv_3"])] };
        TargetFile::create(&path).unwrap().write(&path, &targets).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Targets::read(&path).unwrap();
        assert!(read == targets);
        assert_eq!(read.tokens().collect::<Vec<_>>(), ["kv_1", "kv_3", "kv_2"]);
    }

    #[test]
    fn a_file_that_holds_no_targets_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("targets.json");
        let problem = |content: &str| {
            fs::write(&path, content).unwrap();
            Targets::read(&path).err().unwrap()
        };
        assert!(problem("nonsense").contains("targets.json can't be read: expected"));
        assert!(problem(r#"{"tenants":[]}"#).contains("no agent"));
        let broken = r#"{"tenants":[{"id":"t","slug":"s","agents":[{"id":"a","token":"x\r\ny: z"}]}]}"#;
        assert!(problem(broken).contains("agent number 1"));
        assert!(Targets::read(&home.path().join("none")).err().unwrap().contains("No such file"));
        assert!(TargetFile::create(&home.path().join("no/where")).err().unwrap().contains("no/where"));
    }
}
