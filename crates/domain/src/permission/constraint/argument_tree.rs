//! The arguments that a permission names, as a tree of the same form as the arguments themselves.

use std::borrow::Cow;

use smallvec::{SmallVec, smallvec};

use crate::decision::json_parts::{Kind, items, members};
use crate::error::Code;
use crate::limits::STEPS_PER_ITEM;
use crate::permission::argument_name::{Step, join};
use crate::permission::constraint::argument_rule::{ArgumentRule, Problem};
use crate::permission::constraint::kind::Fails;
use crate::permission::regexes::RegexCache;
use crate::permission::work_budget::WorkBudget;
use crate::text::quote;

/// Rules for a value, or for parts of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ArgumentTree {
    /// A rule for the value.
    Value(ArgumentRule),
    /// Rules for members of an object, sorted by their names.
    Members(Vec<(Box<str>, ArgumentTree)>),
    /// Rules for each item of an array.
    Items(Box<ArgumentTree>),
}

impl Default for ArgumentTree {
    fn default() -> Self {
        Self::Members(Vec::new())
    }
}

/// Where in the arguments a rule does not hold, and why.
pub struct Failed<'c> {
    /// The argument, such as `edits[3].newText`; empty for all of them.
    place: String,
    problem: Problem<'c>,
}

impl<'c> Failed<'c> {
    fn within(self, step: &str) -> Self {
        let dot = if self.place.is_empty() || self.place.starts_with('[') { "" } else { "." };
        Self { place: format!("{step}{dot}{}", self.place), ..self }
    }
}

impl Fails for Failed<'_> {
    fn code(&self) -> Code {
        Code::ArgumentNotAllowed
    }

    fn reason(&self) -> Cow<'static, str> {
        let Self { place, problem } = self;
        match place.as_str() {
            "" => format!("The value of arguments {problem}").into(),
            // The names in it are the call's.
            place => format!("Argument '{}' {problem}", quote(place)).into(),
        }
    }
}

impl<'c> From<Problem<'c>> for Failed<'c> {
    fn from(problem: Problem<'c>) -> Self {
        Self { place: String::new(), problem }
    }
}

/// What may be among a call's arguments besides those that a permission names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unnamed {
    /// Anything.
    Allowed,
    /// Nothing.
    Denied,
    /// What has no text: numbers, booleans, `null`, and arrays of those.
    WithoutText,
}

impl ArgumentTree {
    /// Adds a rule.
    ///
    /// # Errors
    /// What is wrong with the name, to follow the field's name in a sentence.
    pub fn add(&mut self, steps: &[Step], rule: ArgumentRule) -> Result<(), &'static str> {
        const LEADS_ON: &str = "must not be named beside an argument that leads into it, or that it leads into";
        const BOTH: &str = "must not be named both as an object and as an array";
        let is_new = *self == Self::default();
        match (steps.split_first(), self) {
            (None, tree) if is_new => {
                *tree = Self::Value(rule);
                Ok(())
            }
            (None, _) | (_, Self::Value(_)) => Err(LEADS_ON),
            (Some((Step::Member(name), rest)), Self::Members(members)) => {
                let found = members.binary_search_by(|(own, _)| own.cmp(name));
                let at = found.unwrap_or_else(|at| {
                    members.insert(at, (name.clone(), Self::default()));
                    at
                });
                members.get_mut(at).map_or(Ok(()), |(_, tree)| tree.add(rest, rule))
            }
            (Some((Step::Items, rest)), tree) => {
                if is_new {
                    *tree = Self::Items(Box::default());
                }
                let Self::Items(tree) = tree else { return Err(BOTH) };
                tree.add(rest, rule)
            }
            (Some((Step::Member(_), _)), Self::Items(_)) => Err(BOTH),
        }
    }

    /// Shows every rule with the name of its argument.
    pub fn each<'t>(&'t self, name: &str, show: &mut impl FnMut(String, &'t ArgumentRule)) {
        match self {
            Self::Value(rule) => show(name.to_owned(), rule),
            Self::Members(members) => {
                for (member, tree) in members {
                    tree.each(&join(name, &Step::Member(member.clone())), show);
                }
            }
            Self::Items(tree) => tree.each(&join(name, &Step::Items), show),
        }
    }

    /// Checks the arguments that have a rule. `json` is `None` where there are none.
    ///
    /// Members of an object are all looked at, even if their name comes twice. An array without items is as if none
    /// were there.
    ///
    /// # Errors
    /// The first one that does not hold.
    pub fn check<'c>(&'c self, json: Option<&str>, work: &WorkBudget, regexes: &RegexCache) -> Result<(), Failed<'c>> {
        match self {
            Self::Value(rule) => {
                let checked = json.map_or_else(|| rule.check_missing(), |json| rule.check(json, work, regexes));
                checked.map_err(Failed::from)
            }
            Self::Members(named) => {
                let found = json.map(|json| read_members(json, named.len(), work)).transpose()?.unwrap_or_default();
                let mut is_there: SmallVec<[bool; 16]> = smallvec![false; named.len()];
                for (name, value) in found {
                    let Ok(at) = named.binary_search_by(|(own, _)| (**own).cmp(&name)) else { continue };
                    let Some(((own, tree), is_there)) = named.get(at).zip(is_there.get_mut(at)) else { continue };
                    *is_there = true;
                    tree.check(Some(value), work, regexes).map_err(|failed| failed.within(own))?;
                }
                let mut missing = named.iter().zip(&is_there).filter(|(_, is_there)| !**is_there);
                missing.try_for_each(|((own, tree), _)| {
                    tree.check(None, work, regexes).map_err(|failed| failed.within(own))
                })
            }
            Self::Items(tree) => {
                let found = json.map(|json| read_items(json, work)).transpose()?.unwrap_or_default();
                if found.is_empty() {
                    return tree.check(None, work, regexes).map_err(|failed| failed.within("[]"));
                }
                let check = |(at, item)| {
                    let checked: Result<(), Failed<'c>> = tree.check(Some(item), work, regexes);
                    checked.map_err(|failed| failed.within(&format!("[{at}]")))
                };
                found.into_iter().enumerate().try_for_each(check)
            }
        }
    }

    /// Checks what has no rule.
    ///
    /// # Errors
    /// The first that may not be there.
    pub fn check_unnamed(&self, json: &str, unnamed: Unnamed, work: &WorkBudget) -> Result<(), Failed<'static>> {
        match self {
            Self::Value(_) => Ok(()),
            Self::Members(named) => read_members(json, named.len(), work)?.into_iter().try_for_each(|(name, value)| {
                let named = named.binary_search_by(|(own, _)| (**own).cmp(&name)).ok().and_then(|at| named.get(at));
                let checked = match named {
                    Some((_, tree)) => tree.check_unnamed(value, unnamed, work),
                    None => unnamed.check(value).map_err(Failed::from),
                };
                checked.map_err(|failed| failed.within(&name))
            }),
            Self::Items(tree) => read_items(json, work)?.into_iter().enumerate().try_for_each(|(at, item)| {
                tree.check_unnamed(item, unnamed, work).map_err(|failed| failed.within(&format!("[{at}]")))
            }),
        }
    }
}

impl Unnamed {
    fn check(self, json: &str) -> Result<(), Problem<'static>> {
        match self {
            Self::Allowed => Ok(()),
            Self::Denied => Err(Problem::Unnamed),
            // Strings and the names of members begin with a quote, and nothing else has one.
            Self::WithoutText if json.contains('"') => Err(Problem::UnnamedText),
            Self::WithoutText => Ok(()),
        }
    }
}

/// The members of an object, which are held against that many names.
fn read_members<'j>(
    json: &'j str,
    names: usize,
    work: &WorkBudget,
) -> Result<Vec<(Cow<'j, str>, &'j str)>, Problem<'static>> {
    if !work.take(json.len() + (names + 1) * STEPS_PER_ITEM) {
        return Err(Problem::TooMuchWork);
    }
    members(json).ok_or(Problem::OtherKind(Kind::Object, Kind::of(json)))
}

/// The items of an array.
fn read_items<'j>(json: &'j str, work: &WorkBudget) -> Result<Vec<&'j str>, Problem<'static>> {
    if !work.take(json.len() + STEPS_PER_ITEM) {
        return Err(Problem::TooMuchWork);
    }
    items(json).ok_or(Problem::OtherKind(Kind::Array, Kind::of(json)))
}
