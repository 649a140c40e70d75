//! What a scalar means: `resolve.go` of go.yaml.in/yaml/v2, and what JSON then makes of it.

use std::borrow::Cow;

use saphyr_parser::Tag;
use serde_json::{Number, Value};

/// The handle of the tags of YAML itself, which documents write as `!!`.
const YAML: &str = "tag:yaml.org,2002:";

/// A scalar's meaning.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    /// Nothing, `~`, `null`.
    Null,
    /// `true` and `false`, `on` and `off`, `yes` and `no`, `y` and `n`.
    Bool(bool),
    /// An integer in base 2, 8, 10 or 16.
    Int(i64),
    /// An integer above the signed range.
    Uint(u64),
    /// A number with a fraction or an exponent, or one of `.inf` and `.nan`.
    Float(f64),
    /// The merge key `<<`.
    Merge,
    /// Anything else.
    Text(Cow<'a, str>),
}

/// The meaning of `text`. `plain` is a scalar without quotes or block indicator.
pub(super) fn resolve<'a>(
    text: Cow<'a, str>,
    plain: bool,
    tag: Option<&Tag>,
) -> Result<Scalar<'a>, String> {
    let Some(tag) = tag else {
        return Ok(if plain {
            by_form(&text).unwrap_or(Scalar::Text(text))
        } else {
            Scalar::Text(text)
        });
    };
    let wanted = match tag.handle.as_str() {
        YAML => &tag.suffix,
        "" => tag.suffix.strip_prefix(YAML).unwrap_or_default(),
        _ => "",
    };
    let meant = match wanted {
        "null" | "bool" | "int" | "float" | "timestamp" => by_form(&text),
        "binary" => return binary(&text).map(Scalar::Text),
        "merge" if text == "<<" => return Ok(Scalar::Merge),
        // `!!str`, and every tag that kubectl does not know: the text as it stands.
        _ => return Ok(Scalar::Text(text)),
    };
    match (wanted, meant) {
        ("null", Some(Scalar::Null)) => Ok(Scalar::Null),
        ("bool", Some(Scalar::Bool(value))) => Ok(Scalar::Bool(value)),
        ("int", Some(number @ (Scalar::Int(_) | Scalar::Uint(_))))
        | ("float", Some(number @ (Scalar::Int(_) | Scalar::Float(_)))) => Ok(number),
        ("timestamp", None) if is_date(&text) => Ok(Scalar::Text(text)),
        _ => Err(format!("{text:?} is tagged !!{wanted}, and is none")),
    }
}

/// What a plain scalar's form says it is; `None` for text. Dates are text, as kubectl leaves them.
fn by_form(text: &str) -> Option<Scalar<'static>> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Scalar::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Some(Scalar::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Some(Scalar::Bool(false));
        }
        ".nan" | ".NaN" | ".NAN" => return Some(Scalar::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Some(Scalar::Float(f64::INFINITY));
        }
        "-.inf" | "-.Inf" | "-.INF" => return Some(Scalar::Float(f64::NEG_INFINITY)),
        "<<" => return Some(Scalar::Merge),
        _ => {}
    }
    match text.bytes().next()? {
        b'.' => float(text),
        b'+' | b'-' | b'0'..=b'9' if !is_date(text) => {
            let digits = text.replace('_', "");
            integer(&digits).or_else(|| float(&digits))
        }
        _ => None,
    }
}

/// Go's `ParseInt` and `ParseUint` with base 0.
fn integer(text: &str) -> Option<Scalar<'static>> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let signed = unsigned.len() < text.len();
    let (base, digits) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, unsigned.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, unsigned.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, unsigned.get(2..)?),
        [b'0', _, ..] => (8, unsigned.get(1..)?),
        _ => (10, unsigned),
    };
    // Rust's own parsers take a sign, which must not stand here once more.
    if !digits.starts_with(|char: char| char.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, base).ok()?;
    if negative {
        0_i64.checked_sub_unsigned(magnitude).map(Scalar::Int)
    } else {
        i64::try_from(magnitude)
            .map(Scalar::Int)
            .ok()
            // ParseUint takes no sign.
            .or_else(|| (!signed).then_some(Scalar::Uint(magnitude)))
    }
}

/// A number of the form `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?` that is not too great for 64 bits.
fn float(text: &str) -> Option<Scalar<'static>> {
    let numeric = |char: char| char.is_ascii_digit() || matches!(char, '+' | '-' | '.' | 'e' | 'E');
    // Rust's grammar is Go's but for the names of infinity and not-a-number.
    let value: f64 = text.chars().all(numeric).then(|| text.parse().ok())??;
    value.is_finite().then_some(Scalar::Float(value))
}

/// Does it begin like the forms that `parseTimestamp` tries, with `YYYY-`? (Nothing else that does is a number.)
fn is_date(text: &str) -> bool {
    matches!(text.as_bytes(), [a, b, c, d, b'-', ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()))
}

fn binary(text: &str) -> Result<Cow<'static, str>, String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    // Go's decoder skips line breaks.
    let packed: String = text
        .chars()
        .filter(|char| !matches!(char, '\r' | '\n'))
        .collect();
    let bytes = STANDARD
        .decode(packed)
        .map_err(|error| format!("tagged !!binary, and is not base64: {error}"))?;
    Ok(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

// === impl Scalar ===

impl Scalar<'_> {
    /// As the value of a member or an item.
    pub(super) fn into_value(self) -> Result<Value, String> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Number(value.into()),
            // JSON's decoder makes a float of what no signed integer holds.
            Self::Uint(value) => Value::Number(number(as_float(value))?),
            Self::Float(value) => Value::Number(number(value)?),
            Self::Merge => Value::String("<<".into()),
            Self::Text(text) => Value::String(text.into_owned()),
        })
    }

    /// As a member's name, which JSON wants to be text.
    pub(super) fn into_key(self) -> Result<String, String> {
        match self {
            Self::Bool(value) => Ok(value.to_string()),
            Self::Int(value) => Ok(value.to_string()),
            Self::Float(value) => Ok(float_key(value)),
            Self::Text(text) => Ok(text.into_owned()),
            Self::Merge => Ok("<<".into()),
            Self::Null => Err("a key must not be empty or null: put it in quotes".into()),
            Self::Uint(value) => Err(format!("{value} is too great for a key: put it in quotes")),
        }
    }
}

/// A float as the JSON number that kubectl sends: Go writes 1e3 as 1000, and what has no fraction is then read as an
/// integer.
fn number(value: f64) -> Result<Number, String> {
    if value.fract() == 0.0 && value.abs() < 1e21 {
        let whole: Option<i64> = format!("{value:.0}").parse().ok();
        if let Some(whole) = whole {
            return Ok(whole.into());
        }
    }
    Number::from_f64(value)
        .ok_or_else(|| "JSON has no number for .inf and .nan: put it in quotes".to_owned())
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "the loss is what Go does"
)]
fn as_float(value: u64) -> f64 {
    value as f64
}

/// Go's `FormatFloat(value, 'g', -1, 32)`, by which sigs.k8s.io/yaml makes a key of a number.
fn float_key(value: f64) -> String {
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        reason = "the loss is what Go does"
    )]
    let value = value as f32;
    if value.is_nan() {
        return ".nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.into();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
