//! The imports of each file.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{File, WorkspaceMember};

/// For each file, the files that it imports.
pub type Imports = BTreeMap<String, BTreeSet<String>>;

/// The imports of a member's files.
pub fn of(member: &WorkspaceMember) -> Imports {
    let re_exports = re_exports(member);
    let mut imports = Imports::new();
    for (module, file) in &member.files {
        let targets = imports.entry(file.name.clone()).or_default();
        for path in paths(module, file) {
            if let Some(target) = defined_in(member, &re_exports, path)
                && target != file.name
            {
                targets.insert(target);
            }
        }
    }
    imports
}

/// By module and name: the path that a `pub use` gives the name to.
type ReExports = BTreeMap<(String, String), Vec<String>>;

fn re_exports(member: &WorkspaceMember) -> ReExports {
    let mut found = ReExports::new();
    for (module, file) in &member.files {
        for statement in statements(&file.code, true) {
            for (path, name) in leaves(&statement) {
                let path = absolute(module, &path).unwrap_or_else(|| within(module, &path));
                found.insert((module.clone(), name), path);
            }
        }
    }
    found
}

/// The file that defines a path's item, through re-exports.
fn defined_in(member: &WorkspaceMember, re_exports: &ReExports, mut path: Vec<String>) -> Option<String> {
    for _ in 0..8 {
        let (module, rest) = member.module_of(&path);
        let step = rest.first().and_then(|name| re_exports.get(&(module.clone(), name.clone())));
        match step {
            Some(target) => path = target.iter().chain(&rest[1..]).cloned().collect(),
            None => return member.files.get(&module).map(|file| file.name.clone()),
        }
    }
    None
}

/// All paths into the member that a file's code names, from the crate's root.
fn paths(module: &str, file: &File) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for statement in statements(&file.code, false) {
        all.extend(leaves(&statement).into_iter().filter_map(|(path, _)| absolute(module, &path)));
    }
    // Paths in the code itself, such as `crate::text::quote(..)`.
    for (at, _) in file.code.match_indices("crate::").chain(file.code.match_indices("super::")) {
        let before = file.code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let path: String =
            file.code[at..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
        let path: Vec<String> = path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        // The braces of a `use` are read above.
        if !file.code[at..].starts_with(&(path.join("::") + "::{")) {
            all.extend(absolute(module, &path));
        }
    }
    all
}

/// The paths of `use` statements, as text: those that are public, or the others.
fn statements(code: &str, public: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let before = rest[..at].rsplit(['\n', ';', '{', '}']).next().unwrap_or_default().trim();
        let begins = rest[..at].chars().next_back().is_none_or(|c| c.is_whitespace());
        let statement = &rest[at + 4..];
        let end = statement.find(';').unwrap_or(statement.len());
        if begins && before == if public { "pub" } else { "" } {
            found.push(statement[..end].split_whitespace().collect::<Vec<_>>().join(" "));
        }
        rest = &statement[end..];
    }
    found
}

/// Every path of a use tree, with the name that it introduces.
fn leaves(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path: Vec<String> = path.trim().split("::").map(|part| part.trim().to_owned()).collect();
        let path: Vec<String> = path.into_iter().filter(|part| part != "self" && part != "*").collect();
        let name = if name.is_empty() { path.last().cloned().unwrap_or_default() } else { name.trim().to_owned() };
        return vec![(path, name)];
    };
    let prefix: Vec<String> =
        tree[..open].split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let inside = tree[open + 1..].strip_suffix('}').unwrap_or(&tree[open + 1..]);
    let mut found = Vec::new();
    for branch in branches(inside) {
        for (path, name) in leaves(branch) {
            let whole: Vec<String> = prefix.iter().chain(&path).cloned().collect();
            let name = if name.is_empty() { whole.last().cloned().unwrap_or_default() } else { name };
            found.push((whole, name));
        }
    }
    found
}

/// The parts of a use tree's braces, split at commas outside of inner braces.
fn branches(inside: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// A path from the crate's root; `None` if it leads out of the crate.
fn absolute(module: &str, path: &[String]) -> Option<Vec<String>> {
    let mut at: Vec<String> = module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let mut parts = path.iter();
    match parts.next()?.as_str() {
        "crate" => at.clear(),
        "super" => drop(at.pop()),
        "self" => {}
        _ => return None,
    }
    for part in parts {
        if part == "super" { drop(at.pop()) } else { at.push(part.clone()) }
    }
    Some(at)
}

/// A path that begins below the module that names it.
fn within(module: &str, path: &[String]) -> Vec<String> {
    module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).chain(path.iter().cloned()).collect()
}
