//! Amounts of CPU and memory, read and compared as the API server does it.
//!
//! `resource.Quantity` of k8s.io/apimachinery is the model. The API server rounds the amounts of a ResourceList up to
//! thousandths (`SetDefaults_ResourceList`), so thousandths are what is held here: integers, never floats.

use std::fmt;

/// An amount in thousandths: `500m` is 500, `1` is 1,000.
///
/// Amounts compare by value alone: `1` equals `1000m`, and `1Gi` equals `1024Mi`. Beyond 1.7 × 10³⁵ they saturate.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    milli: i128,
    style: Style,
}

/// The kind of suffix it was written with, for printing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `100m`, `2`, `3M`.
    Decimal,
    /// `4Mi`.
    Binary,
    /// `5e6`.
    Exponent,
}

/// Why a string is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The empty string.
    #[error("it is empty")]
    Empty,
    /// It does not begin like a number.
    #[error("it does not begin with a number")]
    Number,
    /// What follows the number is no suffix.
    #[error("its suffix is unknown; CPU takes m, memory takes Ki, Mi, Gi, Ti or k, M, G, T")]
    Suffix,
}

/// As many digits as an `i128` surely holds. Those beyond only round up.
const SIGNIFICANT_DIGITS: u32 = 38;

/// What the API server caps an amount with a binary suffix at.
const BINARY_CAP: i128 = (1 << 63) - 1;

/// The number before the suffix.
struct Number {
    negative: bool,
    mantissa: i128,
    /// The mantissa is multiplied by ten to this power.
    exponent: i32,
    /// Digits other than zero were left out of the mantissa.
    truncated: bool,
}

// === impl Quantity ===

impl Quantity {
    /// Nothing of it.
    pub const ZERO: Self = Self {
        milli: 0,
        style: Style::Decimal,
    };

    /// Reads what `limits` or `requests` hold, a string or the digits of a number.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let text = text.trim(); // Quantity.UnmarshalJSON trims
        if text.is_empty() {
            return Err(Invalid::Empty);
        }
        let (mut number, suffix) = Number::parse(text)?;
        let (style, power_of_ten, power_of_two) = parse_suffix(suffix)?;
        number.double(power_of_two);
        let exponent = number
            .exponent
            .saturating_add(power_of_ten)
            .saturating_add(3);
        let mut milli = scale(number.mantissa, exponent, number.truncated);
        if style == Style::Binary {
            milli = milli.min(BINARY_CAP * 1000);
        }
        Ok(Self {
            milli: if number.negative { -milli } else { milli },
            style,
        })
    }

    /// This many mebibytes.
    pub const fn from_mebibytes(mebibytes: u32) -> Self {
        #[expect(
            clippy::as_conversions,
            reason = "u32 to i128 loses nothing; `From` is not const"
        )]
        Self {
            milli: ((mebibytes as i128) << 20) * 1000,
            style: Style::Binary,
        }
    }

    /// This many thousandths of one.
    pub const fn from_milli(milli: i128) -> Self {
        Self {
            milli,
            style: Style::Decimal,
        }
    }

    /// In thousandths of one.
    pub const fn milli(self) -> i128 {
        self.milli
    }

    /// It is nothing, which Kubernetes reads as not set.
    pub const fn is_zero(self) -> bool {
        self.milli == 0
    }

    /// As a plain number, for a ratio: `1.5`.
    pub fn as_decimal(self) -> String {
        let number = format!(
            "{}.{:03}",
            self.milli / 1000,
            self.milli.unsigned_abs() % 1000
        );
        number
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    }

    /// This one over a `ratio`, rounded up, so that this one is at most so many times the result.
    #[must_use]
    pub fn divided_by(self, ratio: Self) -> Self {
        let (amount, ratio) = (self.milli.saturating_mul(1000), ratio.milli.max(1));
        let milli = amount / ratio + i128::from(amount % ratio > 0);
        // Bytes have no thousandths worth writing.
        let milli = if self.style == Style::Binary {
            milli.saturating_add(999) / 1000 * 1000
        } else {
            milli
        };
        Self {
            milli,
            style: self.style,
        }
    }

    /// Both together, written as this one is (or as the other, if this is zero).
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let style = if self.is_zero() {
            other.style
        } else {
            self.style
        };
        Self {
            milli: self.milli.saturating_add(other.milli),
            style,
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.milli == other.milli
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.milli.cmp(&other.milli)
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.milli / 1000;
        // Below 1,024, or with a fraction, the API server prints decimal.
        if self.style == Style::Binary && self.milli % 1000 == 0 && units.abs() >= 1024 {
            let (units, suffix) = shorten(units, 1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]);
            return write!(f, "{units}{suffix}");
        }
        let (amount, suffix) = if self.style == Style::Exponent {
            let suffixes = &[
                "e-3", "", "e3", "e6", "e9", "e12", "e15", "e18", "e21", "e24", "e27",
            ];
            shorten(self.milli, 1000, suffixes)
        } else {
            shorten(self.milli, 1000, &["m", "", "k", "M", "G", "T", "P", "E"])
        };
        if amount == 0 {
            f.write_str("0")
        } else {
            write!(f, "{amount}{suffix}")
        }
    }
}

// === impl Number ===

impl Number {
    /// The number that `text` begins with, and the rest. As lenient as the API server: `.5`, `5.` and even `.` are numbers.
    fn parse(text: &str) -> Result<(Self, &str), Invalid> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(unsigned.len());
        let (whole, rest) = unsigned.split_at(end);
        let (fraction, rest) = match rest.strip_prefix('.') {
            None => ("", rest),
            Some(rest) => rest.split_at(
                rest.find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(rest.len()),
            ),
        };
        if whole.is_empty() && rest.len() == unsigned.len() {
            return Err(Invalid::Number);
        }
        let mut number = Self {
            negative: text.starts_with('-'),
            mantissa: 0,
            exponent: 0,
            truncated: false,
        };
        number.push(whole, false);
        number.push(fraction, true);
        Ok((number, rest))
    }

    fn push(&mut self, digits: &str, fraction: bool) {
        for digit in digits.bytes().map(|byte| byte - b'0') {
            if self.mantissa < 10_i128.pow(SIGNIFICANT_DIGITS - 1) {
                self.mantissa = self.mantissa * 10 + i128::from(digit);
                self.exponent = self.exponent.saturating_sub(i32::from(fraction));
            } else {
                self.truncated |= digit != 0;
                self.exponent = self.exponent.saturating_add(i32::from(!fraction));
            }
        }
    }

    /// Doubles the mantissa so many times, at the price of digits behind the point where it would not fit.
    fn double(&mut self, times: u32) {
        while self.exponent < 0 && self.mantissa.checked_mul(1 << times).is_none() {
            self.truncated |= self.mantissa % 10 != 0;
            self.mantissa /= 10;
            self.exponent += 1;
        }
        self.mantissa = self.mantissa.saturating_mul(1 << times);
    }
}

/// Style, power of ten and power of two of a suffix.
fn parse_suffix(suffix: &str) -> Result<(Style, i32, u32), Invalid> {
    Ok(match suffix {
        "n" => (Style::Decimal, -9, 0),
        "u" => (Style::Decimal, -6, 0),
        "m" => (Style::Decimal, -3, 0),
        "" => (Style::Decimal, 0, 0),
        "k" => (Style::Decimal, 3, 0),
        "M" => (Style::Decimal, 6, 0),
        "G" => (Style::Decimal, 9, 0),
        "T" => (Style::Decimal, 12, 0),
        "P" => (Style::Decimal, 15, 0),
        "E" => (Style::Decimal, 18, 0),
        "Ki" => (Style::Binary, 0, 10),
        "Mi" => (Style::Binary, 0, 20),
        "Gi" => (Style::Binary, 0, 30),
        "Ti" => (Style::Binary, 0, 40),
        "Pi" => (Style::Binary, 0, 50),
        "Ei" => (Style::Binary, 0, 60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(Invalid::Suffix)?;
            (
                Style::Exponent,
                exponent.parse().map_err(|_| Invalid::Suffix)?,
                0,
            )
        }
    })
}

/// `amount` times ten to the power of `exponent`, rounded away from nothing.
fn scale(amount: i128, exponent: i32, truncated: bool) -> i128 {
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    match power {
        _ if amount == 0 => 0,
        Some(power) if exponent >= 0 => amount
            .saturating_mul(power)
            .saturating_add(i128::from(truncated)),
        Some(power) => amount / power + i128::from(amount % power != 0 || truncated),
        None if exponent >= 0 => i128::MAX,
        None => 1,
    }
}

/// Divides by `step` while nothing is lost and a larger suffix is left.
fn shorten<'s>(mut amount: i128, step: i128, suffixes: &[&'s str]) -> (i128, &'s str) {
    let mut suffixes = suffixes.iter().copied();
    let mut suffix = suffixes.next().unwrap_or_default();
    while amount != 0 && amount % step == 0 {
        let Some(larger) = suffixes.next() else { break };
        amount /= step;
        suffix = larger;
    }
    (amount, suffix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn milli(text: &str) -> i128 {
        Quantity::parse(text).unwrap().milli()
    }

    #[test]
    fn reads_every_suffix() {
        for (text, expected) in [
            ("0", 0),
            ("2", 2_000),
            ("100m", 100),
            ("0.1", 100),
            (".5", 500),
            ("5.", 5_000),
            ("+1", 1_000),
            ("-1", -1_000),
            ("1500000000n", 1_500),
            ("1500000u", 1_500),
            ("1k", 1_000_000),
            ("1M", 10_i128.pow(9)),
            ("1G", 10_i128.pow(12)),
            ("1T", 10_i128.pow(15)),
            ("1P", 10_i128.pow(18)),
            ("1E", 10_i128.pow(21)),
            ("1Ki", 1_024_000),
            ("1Mi", (1 << 20) * 1_000),
            ("1.5Gi", (3 << 29) * 1_000),
            ("1Ti", (1 << 40) * 1_000),
            ("1Pi", (1 << 50) * 1_000),
            ("1Ei", (1 << 60) * 1_000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("1.00000000000000000000000000000Gi", (1 << 30) * 1_000),
            ("12e-1", 1_200),
            ("1e+2", 100_000),
            (" 1 ", 1_000),
            (".", 0),
        ] {
            assert_eq!(milli(text), expected, "{text}");
        }
    }

    #[test]
    fn rounds_up_to_thousandths_and_caps_as_the_api_server_does() {
        assert_eq!(milli("1n"), 1);
        assert_eq!(milli("-1n"), -1);
        assert_eq!(milli("1.0001"), 1_001);
        assert_eq!(milli("1e-400"), 1);
        assert_eq!(milli("0e400"), 0);
        assert_eq!(milli("9Ei"), BINARY_CAP * 1_000);
        assert_eq!(milli("1e400"), i128::MAX);
        assert_eq!(milli("0.000000000000000000000000000001Ki"), 1);
        assert_eq!(
            milli("100000000000000000000000001"),
            10_i128.pow(29) + 1_000
        );
    }

    #[test]
    fn says_in_words_what_is_wrong() {
        for (text, error) in [
            ("", Invalid::Empty),
            ("  ", Invalid::Empty),
            ("aoeu", Invalid::Number),
            ("Mi", Invalid::Number),
            ("512MB", Invalid::Suffix),
            ("512 Mi", Invalid::Suffix),
            ("512mi", Invalid::Suffix),
            ("1.1.M", Invalid::Suffix),
            ("1+1.0M", Invalid::Suffix),
            (".5i", Invalid::Suffix),
            ("1e", Invalid::Suffix),
            ("-3.01e-", Invalid::Suffix),
            ("1e99999999999", Invalid::Suffix),
        ] {
            assert_eq!(Quantity::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn compares_by_value() {
        assert_eq!(Quantity::parse("1"), Quantity::parse("1000m"));
        assert_eq!(Quantity::parse("1Gi"), Quantity::parse("1024Mi"));
        assert!(Quantity::parse("1G").unwrap() < Quantity::parse("1Gi").unwrap());
        assert!(Quantity::parse("0.1").unwrap() > Quantity::parse("99m").unwrap());
    }

    #[test]
    fn prints_the_canonical_form() {
        for (text, canonical) in [
            ("0Mi", "0"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000m", "1"),
            ("2000", "2k"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("0.1Ki", "102400m"),
            ("1000e3", "1e6"),
            ("-1.5", "-1500m"),
            ("3000E", "3000E"),
        ] {
            assert_eq!(
                Quantity::parse(text).unwrap().to_string(),
                canonical,
                "{text}"
            );
        }
    }

    #[test]
    fn a_ratio_is_a_plain_number() {
        for (text, decimal) in [("2", "2"), ("1500m", "1.5"), ("0.25", "0.25"), ("10", "10")] {
            assert_eq!(Quantity::parse(text).unwrap().as_decimal(), decimal);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(
            digits in "[0-9]{1,12}(\\.[0-9]{0,6})?",
            suffix in "(|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9]|E-[0-9])",
        ) {
            let quantity = Quantity::parse(&format!("{digits}{suffix}")).unwrap();
            prop_assert_eq!(Quantity::parse(&quantity.to_string()).unwrap(), quantity);
        }

        #[test]
        fn no_string_is_too_odd(text in "\\PC*") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn order_is_that_of_the_numbers(a in 0_u32.., b in 0_u32.., suffix in "(|m|k|Mi|Gi)") {
            let parse = |n: u32| Quantity::parse(&format!("{n}{suffix}")).unwrap();
            prop_assert_eq!(parse(a).cmp(&parse(b)), a.cmp(&b));
        }
    }
}
