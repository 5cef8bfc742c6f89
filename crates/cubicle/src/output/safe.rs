//! Text that comes from users, templates and notebooks, made harmless for a terminal.

/// Whether a character could move the cursor, restyle the screen, or reorder what is read.
///
/// Besides the control characters (C0, DEL, C1) these are the bidirectional controls of
/// Unicode Standard Annex #9 and the line and paragraph separators.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// One line: every control character is shown as an escape.
pub(crate) fn line(text: &str) -> String {
    text.chars().map(|character| shown(character, false)).collect()
}

/// Many lines: line feeds and tabs stay.
pub(crate) fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").chars().map(|character| shown(character, true)).collect()
}

/// The same characters in JSON text, where the escape is part of the syntax, so that a
/// program still reads exactly what was said.
pub(crate) fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hostile(character) && character != '\n' {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

fn shown(character: char, many: bool) -> String {
    if is_hostile(character) && !(many && matches!(character, '\n' | '\t')) {
        return character.escape_unicode().to_string();
    }
    character.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_steers_it() {
        assert_eq!(line("a\x1b[2Jb\u{9b}c\u{202e}d\n"), "a\\u{1b}[2Jb\\u{9b}c\\u{202e}d\\u{a}");
        assert_eq!(lines("a\r\n\tb\rc"), "a\n\tb\\u{d}c");
        assert_eq!(line("Zoë 名前"), "Zoë 名前");
    }

    #[test]
    fn json_reads_back_unchanged() {
        let hostile = "\u{9b}\u{202e}\u{7f}é";
        let text = json(&serde_json::to_string(hostile).expect("text"));
        assert!(text.is_ascii() || text.contains('é'));
        assert!(!text.chars().any(is_hostile));
        assert_eq!(serde_json::from_str::<String>(&text).expect("valid"), hostile);
    }
}
