//! Patterns for the names of namespaces and Secrets.

use super::Invalid;

/// A pattern: `*` stands for any run of characters, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Box<str>);

// === impl Glob ===

impl Glob {
    /// A pattern that can match the name of an object at all: lower-case letters, digits, `-`, `.`, `*` and `?`.
    pub(super) fn parse(pattern: &str, pointer: impl Into<String>) -> Result<Self, Invalid> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.*?".contains(c);
        if pattern.is_empty() {
            return Err(Invalid::new(
                pointer,
                "must not be empty; \"*\" stands for all",
            ));
        }
        if let Some(odd) = pattern.chars().find(|&c| !fits(c)) {
            let reason = format!("\"{pattern}\" matches no name: names hold no {odd:?}");
            return Err(Invalid::new(pointer, reason));
        }
        Ok(Self(pattern.into()))
    }

    /// The whole of `name` fits the pattern.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where to go on from when what followed the last `*` did not fit: linear in practice, quadratic at worst.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match (pattern.get(p), name.get(n)) {
                (None, None) => return true,
                (Some(b'*'), _) => {
                    retry = Some((p, n + 1));
                    p += 1;
                }
                (Some(b'?'), Some(_)) => (p, n) = (p + 1, n + 1),
                (Some(expected), Some(byte)) if expected == byte => (p, n) = (p + 1, n + 1),
                _ => match retry {
                    Some((star, next)) if next <= name.len() => {
                        retry = Some((star, next + 1));
                        (p, n) = (star + 1, next);
                    }
                    _ => return false,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_whole_name() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("prod", "prod", true),
            ("prod", "prod-eu", false),
            ("prod-*", "prod-", true),
            ("prod-*", "prod-eu", true),
            ("prod-*", "prod", false),
            ("*-prod", "eu-prod", true),
            ("*-prod", "eu-prod-1", false),
            ("a*b*c", "axxbxbxc", true),
            ("a*b*c", "axxbxb", false),
            ("team-?", "team-a", true),
            ("team-?", "team-", false),
            ("**a", "bba", true),
        ] {
            let glob = Glob::parse(pattern, "").unwrap();
            assert_eq!(glob.matches(name), expected, "{pattern} {name}");
        }
    }
}
