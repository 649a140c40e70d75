//! What the pages of both programs have in common: the look, the picture, and text that stays text.

use std::fmt::{self, Write as _};

/// The style that every page begins with: colours by day and by night, type, sections, tables.
pub const LOOK: &str = include_str!("look.css");

/// Text between tags or in a quoted attribute: no markup, and no character that would hide or turn others.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a>(pub &'a str);

/// The gate as a picture: an arch whose grating is down at 0, up at 10.
pub fn grating(lift: u8) -> String {
    let up = i32::from(lift) * 6;
    let bars = [26, 40, 54, 68, 82].map(|x| format!("M{x} 0V{}", 92 - up));
    format!(
        "<svg class=\"gate\" viewBox=\"0 0 108 104\" aria-hidden=\"true\"><clipPath id=\"arch\">\
         <path d=\"M16 98V46a38 38 0 0 1 76 0V98z\"/></clipPath><g clip-path=\"url(#arch)\">\
         <path class=\"iron\" d=\"{}M10 {}H98M10 {}H98M10 {}H98\"/></g>\
         <path class=\"wall\" d=\"M16 98V46a38 38 0 0 1 76 0V98M4 98H104\"/></svg>",
        bars.concat(),
        36 - up,
        56 - up,
        76 - up,
    )
}

/// Draws nothing, or changes how its neighbours are drawn: controls, and what Unicode calls format characters, of which
/// the bidirectional ones let text read otherwise than it is (Unicode Technical Report 36, section 2.10).
fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0001}'..='\u{e007f}'
        )
}

// === impl Text ===

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ if is_hidden(char) => write!(f, "{}", char.escape_unicode())?,
                _ => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup_and_reads_as_it_is() {
        for (text, written) in [
            ("</script><b>", "&lt;/script&gt;&lt;b&gt;"),
            ("\" onload='x' &", "&quot; onload=&#39;x&#39; &amp;"),
            ("safe\u{202e}gpj", "safe\\u{202e}gpj"),
            ("a\u{200b}b\u{1b}[0m", "a\\u{200b}b\\u{1b}[0m"),
            ("שלום, grüß dich", "שלום, grüß dich"),
        ] {
            assert_eq!(Text(text).to_string(), written);
        }
    }
}
