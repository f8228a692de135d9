//! A member's files as modules, without their comments and tests.

use std::collections::BTreeMap;
use std::path::Path;

/// The source files of one member.
pub struct WorkspaceMember {
    /// By module path, such as `budget::policy`; the empty path is `lib.rs`.
    pub files: BTreeMap<String, File>,
}

/// One source file.
pub struct File {
    /// Its path below `src`.
    pub name: String,
    /// Its code, without comments, strings and test modules.
    pub code: String,
}

impl WorkspaceMember {
    /// Reads all files below a folder.
    pub fn read(src: &Path) -> Self {
        let mut files = Vec::new();
        collect(src, src, &mut files);
        Self::of(files)
    }

    /// A member made of these files, each with its path below `src`.
    pub fn of(files: Vec<(String, String)>) -> Self {
        let files = files.into_iter().filter_map(|(name, text)| {
            let path = name.strip_suffix(".rs")?;
            // Only tests read the modules of tests.
            let last = path.rsplit('/').next().unwrap_or(path);
            if last == "tests" || last.ends_with("_tests") || last == "main" {
                return None;
            }
            let path = path.strip_suffix("/mod").unwrap_or(path);
            let module = if path == "lib" { String::new() } else { path.replace('/', "::") };
            Some((module, File { code: without_tests(&without_comments(&text)), name }))
        });
        Self { files: files.collect() }
    }

    /// The module that a path leads to, or the module that contains the item at its end.
    pub fn module_of<'p>(&self, path: &'p [String]) -> (String, &'p [String]) {
        for length in (0..=path.len()).rev() {
            let (module, rest) = path.split_at(length);
            let module = module.join("::");
            if self.files.contains_key(&module) {
                return (module, rest);
            }
        }
        (String::new(), path)
    }
}

fn collect(src: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(src, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(src).unwrap().to_string_lossy().into_owned();
            files.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The text without line comments and string literals.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let (mut quoted, mut escaped) = (false, false);
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '/' if !quoted && chars.peek() == Some(&'/') => break,
                _ if quoted => {}
                _ => code.push(c),
            }
        }
        code.push('\n');
    }
    code
}

/// The code without items that are compiled only for tests.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, item) = rest.split_at(at);
        kept.push_str(before);
        rest = &item[end_of_item(item)..];
    }
    kept + rest
}

/// Where an item ends: at its closing brace, or at a semicolon before any brace.
fn end_of_item(item: &str) -> usize {
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}
