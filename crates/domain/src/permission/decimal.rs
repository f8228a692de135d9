//! Numbers as JSON spells them, compared by their exact value: `100`, `100.0` and `1e2` are one number, and no digit is
//! rounded away.

use std::cmp::Ordering;
use std::iter::repeat;

use crate::limits::MAX_NUMBER_BYTES;

/// A number of a permission. It keeps its spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal(Box<str>);

impl Decimal {
    /// Reads the text of a JSON number (RFC 8259).
    ///
    /// # Errors
    /// What is wrong with it, to follow the field's name in a sentence.
    pub fn parse(json: &str) -> Result<Self, String> {
        let is_in_range = Parts::of(json).is_some_and(|parts| parts.scale.abs() <= MAX_SCALE)
            && json.parse().is_ok_and(f64::is_finite);
        if json.len() > MAX_NUMBER_BYTES || !is_in_range {
            return Err(format!("must be a number of at most {MAX_NUMBER_BYTES} bytes, within the range of a double"));
        }
        Ok(Self(json.into()))
    }

    /// Reads a number that was stored, however long it is. `None` for other text.
    pub fn read(json: &str) -> Option<Self> {
        Parts::of(json).map(|_| Self(json.into()))
    }

    /// The number as it is spelled.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How it compares with a call's number. `None` if that is not a JSON number.
    pub fn compare(&self, json: &str) -> Option<Ordering> {
        Some(Parts::of(&self.0)?.compare(&Parts::of(json)?))
    }
}

/// The powers of ten that a permission's number may have: a little more than those of a double.
const MAX_SCALE: i64 = 400;
/// Farther than any permission's number. Exponents of calls are cut here, so that adding to them never overflows.
const FAR: i64 = 1 << 40;

/// A number's parts: digits without zeros at their start, to be read as `0.digits` times ten to the power `scale`.
struct Parts<'a> {
    is_negative: bool,
    whole: &'a str,
    fraction: &'a str,
    scale: i64,
}

impl<'a> Parts<'a> {
    fn of(json: &'a str) -> Option<Self> {
        let number = json.strip_prefix('-');
        let (is_negative, number) = (number.is_some(), number.unwrap_or(json));
        let (mantissa, exponent) = match number.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
            None => (number, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let significant = if whole.is_empty() { fraction.trim_start_matches('0') } else { fraction };
        // Zeros after the point move it, if nothing stands before it.
        let moved = whole.len() as i64 - (fraction.len() - significant.len()) as i64;
        let is_zero = whole.is_empty() && significant.is_empty();
        let (is_negative, scale) = if is_zero { (false, 0) } else { (is_negative, exponent + moved) };
        Some(Self { is_negative, whole, fraction: significant, scale })
    }

    fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.bytes().chain(self.fraction.bytes())
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self.compare_size(other),
            (true, true) => other.compare_size(self),
        }
    }

    fn compare_size(&self, other: &Self) -> Ordering {
        if self.is_zero() || other.is_zero() {
            return other.is_zero().cmp(&self.is_zero());
        }
        let (one, two) = (self.whole.len() + self.fraction.len(), other.whole.len() + other.fraction.len());
        let padded = |parts| Iterator::chain(Parts::digits(parts), repeat(b'0')).take(one.max(two));
        self.scale.cmp(&other.scale).then_with(|| padded(self).cmp(padded(other)))
    }
}

/// Reads an exponent. An extreme one is cut.
fn read_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse().unwrap_or(FAR).min(FAR);
    Some(if text.starts_with('-') { -size } else { size })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compare(one: &str, two: &str) -> Ordering {
        Decimal::parse(one).unwrap().compare(two).unwrap()
    }

    #[test]
    fn one_number_has_many_spellings() {
        for same in [
            &["100", "100.0", "1e2", "1E+2", "1000e-1", "0.1e3", "100.00000000000000000000", "0.0000000001e12"][..],
            &["0", "-0", "0.0", "0e999999999999999999999", "-0.000e-5"],
            &["-1.5", "-15e-1", "-1.50"],
            &["0.001", "1e-3", "0.0010"],
        ] {
            for one in same {
                for two in same.iter().filter(|_| Decimal::parse(one).is_ok()) {
                    assert_eq!(compare(one, two), Ordering::Equal, "{one} {two}");
                }
            }
        }
    }

    #[test]
    fn no_digit_is_rounded_away() {
        let rising = [
            "-1e308",
            "-100.00000000000000000001",
            "-100",
            "-99.99999999999999999999",
            "-1e-300",
            "0",
            "1e-300",
            "0.09999999999999999999999",
            "0.1",
            "0.10000000000000000000001",
            "1",
            "9007199254740992",
            "9007199254740993",
            "100000000000000000000000000000",
            "1e308",
        ];
        for (at, one) in rising.iter().enumerate() {
            for (other, two) in rising.iter().enumerate() {
                assert_eq!(compare(one, two), at.cmp(&other), "{one} {two}");
            }
        }
        for (small, large) in
            [("0", "1e-99999999999999999999"), ("0.1", "1e999999999"), ("-1e99999999999999999999", "-1")]
        {
            let (limit, call, expected) = if Decimal::parse(small).is_ok() {
                (small, large, Ordering::Less)
            } else {
                (large, small, Ordering::Greater)
            };
            assert_eq!(compare(limit, call), expected, "{small} {large}");
        }
    }

    #[test]
    fn what_is_no_number_is_not_compared() {
        for bad in ["", "-", "1.", ".5", "+1", "1e", "1e+-1", "0x1", "NaN", "Infinity", "\"1\"", "true", "1 ", "1,5"] {
            assert!(Decimal::parse(bad).is_err(), "{bad}");
            assert_eq!(Decimal::parse("1").unwrap().compare(bad), None, "{bad}");
        }
        for far in ["1e309", "-1e999", "1e-402", "1e-99999999999999999999", &"1".repeat(MAX_NUMBER_BYTES + 1)] {
            assert!(Decimal::parse(far).is_err(), "{far}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_whole_numbers_of_the_same_unit(
            one in -1_000_000i64..1_000_000,
            two in -1_000_000i64..1_000_000,
            shift in 0usize..9,
        ) {
            let spell = |n: i64, shift: usize| match shift {
                0..3 => format!("{n}e-{shift}"),
                3..6 => format!("{}{}.{:0width$}", if n < 0 { "-" } else { "" }, n.abs() / 1_000, n.abs() % 1_000, width = 3) + &format!("e{}", 3 - shift as i64),
                _ => format!("{n}000e-{}", shift + 3),
            };
            prop_assert_eq!(compare(&spell(one, shift), &spell(two, shift)), one.cmp(&two));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+.eE0-9]{0,12}") {
            let _ = Decimal::parse("1").unwrap().compare(&text);
            if let Ok(number) = Decimal::parse(&text) {
                prop_assert!(text.parse::<f64>().is_ok());
                prop_assert_eq!(number.compare(&text), Some(Ordering::Equal));
            }
        }
    }
}
