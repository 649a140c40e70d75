//! Text that goes into YAML to paste.

/// `text` as a YAML scalar that kubectl reads back as this very string, also inside `{}` and `[]`.
///
/// Plain where that is surely safe; otherwise in the quotes of JSON, which YAML knows too. Words such as `on`, `no` or
/// `null` and everything that begins like a number are quoted, since YAML 1.1 has other plans for them.
pub(super) fn scalar(text: &str) -> String {
    let is_plain = text
        .starts_with(|first: char| first.is_ascii_alphabetic() || "/_".contains(first))
        && text
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || "/_.-".contains(char))
        && !RESERVED.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is_plain {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}

/// What YAML 1.1 does not read as a string (<https://yaml.org/type/bool.html>, <https://yaml.org/type/null.html>).
const RESERVED: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

#[cfg(test)]
mod tests {
    use super::scalar;

    #[test]
    fn words_and_paths_stay_plain() {
        for plain in ["http", "/ready", "LOG_LEVEL", "a.b-c", "tls.crt"] {
            assert_eq!(scalar(plain), plain);
        }
    }

    #[test]
    fn what_yaml_reads_as_something_else_is_quoted() {
        for other in [
            "on", "No", "TRUE", "null", "8080", "1e3", "0x1f", "", "~", "-", ".5", ".inf",
        ] {
            assert_eq!(scalar(other), format!("\"{other}\""));
        }
    }

    #[test]
    fn what_would_break_the_line_or_a_flow_map_is_quoted() {
        for (text, quoted) in [
            ("/ready?full=1", r#""/ready?full=1""#),
            ("a, b", r#""a, b""#),
            ("{x}", r#""{x}""#),
            ("a: b", r#""a: b""#),
            ("a #b", r#""a #b""#),
            ("say \"hi\"\n", r#""say \"hi\"\n""#),
            ("*", "\"*\""),
        ] {
            assert_eq!(scalar(text), quoted);
        }
    }
}
