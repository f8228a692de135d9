//! Cycles in a graph: its strongly connected components of more than one node (Tarjan, 1972).

use std::collections::BTreeMap;

use super::imports::Imports;

/// The cycles, each with its files in order.
pub fn circles(imports: &Imports) -> Vec<Vec<String>> {
    let mut search = CycleSearch {
        imports,
        numbers: BTreeMap::new(),
        lowest: BTreeMap::new(),
        stack: Vec::new(),
        found: Vec::new(),
    };
    for file in imports.keys() {
        if !search.numbers.contains_key(file.as_str()) {
            search.visit(file);
        }
    }
    search.found
}

struct CycleSearch<'i> {
    imports: &'i Imports,
    /// The order in which files were reached.
    numbers: BTreeMap<&'i str, usize>,
    /// For each file, the first file on the stack that it leads back to.
    lowest: BTreeMap<&'i str, usize>,
    stack: Vec<&'i str>,
    found: Vec<Vec<String>>,
}

impl<'i> CycleSearch<'i> {
    fn visit(&mut self, file: &'i str) {
        let number = self.numbers.len();
        self.numbers.insert(file, number);
        self.lowest.insert(file, number);
        self.stack.push(file);
        for target in self.imports.get(file).into_iter().flatten() {
            if !self.numbers.contains_key(target.as_str()) {
                self.visit(target);
                self.lower(file, self.lowest[target.as_str()]);
            } else if self.stack.contains(&target.as_str()) {
                self.lower(file, self.numbers[target.as_str()]);
            }
        }
        if self.lowest[file] == number {
            let start = self.stack.iter().position(|on| *on == file).unwrap();
            let mut circle: Vec<String> = self.stack.split_off(start).into_iter().map(str::to_owned).collect();
            if circle.len() > 1 {
                circle.sort();
                self.found.push(circle);
            }
        }
    }

    fn lower(&mut self, file: &'i str, to: usize) {
        let lowest = self.lowest.entry(file).or_insert(to);
        *lowest = to.min(*lowest);
    }
}
