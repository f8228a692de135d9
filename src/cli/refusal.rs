//! Errors about a command line that can't be used. They never repeat a value that is, or may be part of, a secret: an
//! error's text ends up in logs and tickets.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

use kavach_domain::secret_scan::holds_secret;

/// The error, without anything that may be a secret. `args` is the command line.
pub(super) fn without_secrets(error: Error, command: &mut Command, args: &[String]) -> Error {
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return error;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    if let (Some(option), Some(value)) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue)) {
        let name = option.split([' ', '=']).next().unwrap_or(option);
        let is_secret = all_options(command).iter().any(|arg| keeps_its_value(arg) && is_named(arg, name));
        if is_secret || may_be_secret(value) {
            let why = error.source().map_or_else(|| "not a possible value".to_owned(), ToString::to_string);
            return command.error(kind, format!("invalid value for '{option}', not shown here: {why}"));
        }
    }
    let words = words_of_secrets(command, args);
    let shows = error.context().any(|(_, value)| match value {
        ContextValue::String(text) => may_be_secret(text) || words.contains(&text.as_str()),
        _ => false,
    });
    if shows {
        let problem = "unexpected argument, not shown here since it may be part of a secret; quote a value that has a \
                       blank in it";
        return command.error(kind, problem);
    }
    error
}

/// Whether an option's value is never shown: not by `--help`, which prints the environment's, and not by errors.
fn keeps_its_value(arg: &Arg) -> bool {
    arg.is_hide_env_values_set()
}

fn is_named(arg: &Arg, name: &str) -> bool {
    arg.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long))
}

fn all_options(command: &Command) -> Vec<&Arg> {
    let below = command.get_subcommands().flat_map(all_options);
    command.get_arguments().chain(below).collect()
}

/// Recognizes keys and tokens by their form, and URLs with a user or a password.
fn may_be_secret(text: &str) -> bool {
    holds_secret(text) || text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

/// Everything that follows an option with a secret value, up to the next option: a shell splits values at blanks.
fn words_of_secrets<'a>(command: &Command, args: &'a [String]) -> Vec<&'a str> {
    let options = all_options(command);
    let mut words = Vec::new();
    let mut within = false;
    for arg in args {
        let (name, value) = arg.split_once('=').map_or((arg.as_str(), None), |(name, value)| (name, Some(value)));
        match options.iter().find(|option| is_named(option, name)) {
            Some(option) => {
                within = keeps_its_value(option);
                words.extend(value.filter(|_| within));
            }
            None if within => words.push(arg),
            None => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    /// The program's message about that command line.
    fn said(args: &[&str]) -> String {
        let args: Vec<String> = ["kavach"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        let error = Cli::try_parse_from(&args).unwrap_err();
        without_secrets(error, &mut Cli::command(), &args).to_string()
    }

    #[test]
    fn no_part_of_a_secret_is_repeated() {
        let long = format!("{}-sesame", "open".repeat(100));
        let formed = format!("kvt_{}", "sesameX".repeat(10));
        for args in [
            &["--operator-key", "sesame"][..],
            &["--operator-key", &long],
            &["--operator-key", "", "sesame"],
            &["--operator-key", "kv_sesame-0123456789-0123456789-0123456789"],
            &["--operator-key", "kvt_sesame-0123456789-0123456789-0123456789"],
            &["--operator-key=kvt_sesame-0123456789-0123456789-0123456789"],
            &["--operator-key", "0123456789 0123456789 0123456789 sesame"],
            &["--operator-key", "0123456789-0123456789-0123456789-0123456789", "sesame"],
            &["serve", "--operator-key", "0123456789-0123456789-0123456789-0123456789", "sesame"],
            &["--operator-key", "0123456789-0123456789-0123456789-0123456789", "--sesame"],
            &["--operator-key", "0123456789\n0123456789\u{e9}0123456789\u{0}sesame"],
            &["load", "--key", "sesame"],
            &["load", "--key", "0123456789-0123456789-0123456789-0123456789", "sesame"],
            &["load", "--url", "http://user:sesame@kavach.internal:7600"],
            &["load", "--url", "https://user:sesame@kavach.internal"],
            &["load", "--url", "http://user:ses ame@kavach internal sesame"],
            &["load", "http://user:sesame@kavach.internal"],
            &["load", "--rate", "http://user:sesame@kavach.internal"],
            &["--public-url", "https://user:sesame@kavach.example"],
            &["--public-url", "user:sesame@kavach.example"],
            &["--public-url", "https://kavach.example/?password=sesame"],
            &["--addr", "http://user:sesame@kavach.example"],
            &["--addr", &formed],
            &["--durability", &formed],
            &[&formed],
            &["--demo=kvo_sesamesesamesesamesesamesesamesesamesesamesesame"],
        ] {
            let said = said(args);
            assert!(said.starts_with("error: ") && !said.contains("sesame"), "{args:?}: {said}");
        }
        assert!(said(&["--operator-key", "short"]).contains("'--operator-key <OPERATOR_KEY>'"));
        assert!(said(&["--operator-key", "short"]).contains("32 to 256 visible"));
        assert!(said(&["--operator-key", "kvt_0123456789-0123456789-0123456789"]).contains("start with kv_ or kvt_"));
    }

    #[test]
    fn other_values_are_repeated() {
        for (args, shown) in [
            (&["--addr", "localhost"][..], "'localhost' for '--addr"),
            (&["--durability", "maybe"], "'maybe'"),
            (&["sreve"], "'sreve'"),
            (&["--operator-key", "0123456789-0123456789-0123456789-0123456789", "--addr", "x"], "'x' for '--addr"),
            (&["--workers", "0"], "'0' for '--workers"),
            (&["--bogus"], "'--bogus'"),
        ] {
            let said = said(args);
            assert!(said.contains(shown), "{args:?}: {said}");
        }
    }
}
