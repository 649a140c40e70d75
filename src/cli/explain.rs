//! `portcullis explain`: what a rule demands, why, and how it is met.

use std::io::{self, Write};

use clap::Args;

use super::terminal::{Color, Palette, Pipe, Style};
use crate::policy::rules::{RULES, Rule, RuleId};

/// A line of prose is this long at most.
const WIDTH: usize = 100;

/// How alike a rule's name must be to be suggested (Jaro-Winkler, 1 is equal): lets `cpu-limt` find `cpu-limit`, and not `cpu-request`.
const LIKENESS: f64 = 0.9;

/// Options of `portcullis explain`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  portcullis explain
  portcullis explain secret-reference")]
pub struct ExplainArgs {
    /// Name of a rule, as findings and settings write it; without it, all rules are listed
    #[arg(value_name = "RULE")]
    rule: Option<String>,

    /// When to colour
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
}

/// Nothing was explained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such rule.
    #[error("there is no rule \"{name}\"{}", suggest(near))]
    NoSuchRule {
        /// What was asked for.
        name: String,
        /// Rules with names like it.
        near: Vec<RuleId>,
    },
    /// Standard output can't be written to.
    #[error("standard output")]
    Output(#[from] io::Error),
}

/// Writes what is asked for to `out`.
pub fn run(args: &ExplainArgs, out: impl Write) -> Result<(), Error> {
    let ExplainArgs { rule, color } = args;
    let palette = Palette::new(*color);
    let mut out = Pipe::new(out);
    let Some(name) = rule else {
        list(palette, &mut out)?;
        return Ok(());
    };
    let Some(id) = RuleId::parse(name) else {
        return Err(Error::NoSuchRule {
            name: name.clone(),
            near: near(name),
        });
    };
    explain(id.rule(), palette, &mut out)?;
    Ok(())
}

fn list(palette: Palette, out: &mut impl Write) -> io::Result<()> {
    let width = RuleId::ALL
        .iter()
        .map(|id| id.as_str().len())
        .max()
        .unwrap_or_default();
    for rule in RULES {
        let id = palette.paint(Style::Bold, format_args!("{:width$}", rule.id));
        let indent = width + 8;
        let summary = wrap(rule.summary, WIDTH - indent, &" ".repeat(indent));
        writeln!(out, "{id}  {:4}  {summary}", rule.level)?;
    }
    writeln!(
        out,
        "\nportcullis explain RULE says why, and how to meet it."
    )
}

fn explain(rule: &Rule, palette: Palette, out: &mut impl Write) -> io::Result<()> {
    let title = palette.paint(Style::Bold, rule.id);
    writeln!(out, "{title} ({} by default)\n", rule.level)?;
    writeln!(out, "{}\n", wrap(&sentence(rule.summary), WIDTH, ""))?;
    writeln!(out, "{}\n", wrap(rule.why, WIDTH, ""))?;
    for (head, style, yaml) in [
        ("Does not pass:", Style::Red, rule.example),
        ("Passes:", Style::Green, rule.fixed),
    ] {
        writeln!(out, "{}\n", palette.paint(style, head))?;
        for line in yaml.trim_end().lines() {
            writeln!(out, "{}", format!("  {line}").trim_end())?;
        }
        writeln!(out)?;
    }
    writeln!(out, "To set its level, in the settings file:\n")?;
    writeln!(
        out,
        "  rules:\n    {}: {{level: warn}}   # none, warn or deny",
        rule.id
    )
}

/// Rules with names like `name`, the likest first.
fn near(name: &str) -> Vec<RuleId> {
    let likeness = |id: RuleId| strsim::jaro_winkler(name, id.as_str());
    let mut near: Vec<_> = RuleId::ALL
        .into_iter()
        .filter(|id| likeness(*id) >= LIKENESS || (!name.is_empty() && id.as_str().contains(name)))
        .collect();
    near.sort_by(|a, b| likeness(*b).total_cmp(&likeness(*a)));
    near.truncate(3);
    near
}

fn suggest(near: &[RuleId]) -> String {
    if near.is_empty() {
        return "; portcullis explain lists all".to_owned();
    }
    let names: Vec<_> = near.iter().map(|id| id.as_str()).collect();
    format!("; did you mean {}?", names.join(" or "))
}

/// A summary of the table as a sentence of its own.
fn sentence(summary: &str) -> String {
    let mut chars = summary.chars();
    let first = chars.next().map(char::to_uppercase);
    let end = if summary.ends_with('.') { "" } else { "." };
    first
        .into_iter()
        .flatten()
        .chain(chars)
        .chain(end.chars())
        .collect()
}

/// `text` in lines of at most `width`, all but the first behind `indent`.
fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut wrapped = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            wrapped.push('\n');
            wrapped.push_str(indent);
            used = 0;
        } else if used > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += length;
    }
    wrapped
}

// === impl Error ===

impl Error {
    /// The exit status that tells it: 64, `EX_USAGE` of sysexits(3), or 1 where the output is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSuchRule { .. } => 64,
            Self::Output(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(rule: Option<&str>) -> Result<String, Error> {
        let args = ExplainArgs {
            rule: rule.map(str::to_owned),
            color: Color::Never,
        };
        let mut out = Vec::new();
        run(&args, &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn lists_every_rule_in_lines_that_fit() {
        let list = explained(None).unwrap();
        for id in RuleId::ALL {
            assert!(
                list.lines().any(|line| line.starts_with(id.as_str())),
                "{id}"
            );
        }
        assert!(
            list.lines().all(|line| line.chars().count() <= WIDTH),
            "{list}"
        );
    }

    #[test]
    fn explains_every_rule_with_why_example_and_fix() {
        for rule in RULES {
            let text = explained(Some(rule.id.as_str())).unwrap();
            let flat: Vec<_> = text.split_whitespace().collect();
            let why: Vec<_> = rule.why.split_whitespace().collect();
            assert!(flat.join(" ").contains(&why.join(" ")), "{}", rule.id);
            for line in rule.example.lines().chain(rule.fixed.lines()) {
                assert!(text.contains(line.trim_end()), "{}: {line}", rule.id);
            }
        }
    }

    #[test]
    fn a_rule_that_is_not_there_suggests_its_neighbours() {
        let error = explained(Some("memory-limits")).unwrap_err().to_string();
        let start = "there is no rule \"memory-limits\"; did you mean memory-limit";
        assert!(error.starts_with(start), "{error}");
        assert_eq!(
            error,
            "there is no rule \"memory-limits\"; did you mean memory-limit?"
        );
        let error = explained(Some("zzz")).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no rule \"zzz\"; portcullis explain lists all"
        );
    }
}
