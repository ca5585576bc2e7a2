//! Words of a JSON5 text with their places, so that single strings can be exchanged and everything else,
//! comments included, stays as its author wrote it. JSON is JSON5 too.
//!
//! Not a parser: what a text means is for its application to say. Only what is needed to be sure where
//! strings begin and end, and under which key a value stands, is understood (<https://spec.json5.org>).

use std::ops::Range;

/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 128;

/// A text that is no JSON5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON5 at byte {0}")]
pub struct NotJson5(pub usize);

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A quoted string, decoded.
    Text(String),
    /// A number, a bare key, `true` and the like.
    Word(String),
    /// `{`, `}`, `[`, `]`, `:` or `,`.
    Mark(u8),
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: if text.starts_with('\u{feff}') { 3 } else { 0 } }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Steps over blanks and comments.
    fn skip(&mut self) -> Result<(), NotJson5> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
            self.at += rest.len() - trimmed.len();
            let length = if trimmed.starts_with("//") {
                trimmed.find(['\n', '\r', '\u{2028}', '\u{2029}']).unwrap_or(trimmed.len())
            } else if let Some(comment) = trimmed.strip_prefix("/*") {
                comment.find("*/").ok_or(NotJson5(self.at))? + 4
            } else {
                return Ok(());
            };
            self.at += length;
        }
    }

    fn next(&mut self) -> Result<Option<(Range<usize>, Token)>, NotJson5> {
        self.skip()?;
        let begin = self.at;
        let Some(first) = self.rest().chars().next() else { return Ok(None) };
        let token = match first {
            '{' | '}' | '[' | ']' | ':' | ',' => {
                self.at += 1;
                Token::Mark(self.text.as_bytes()[begin])
            }
            '"' | '\'' => Token::Text(self.string(first)?),
            _ => {
                let word = |c: char| c.is_alphanumeric() || "_$+-.\\\u{200c}\u{200d}".contains(c);
                let rest = self.rest();
                let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
                if length == 0 {
                    return Err(NotJson5(begin));
                }
                self.at += length;
                Token::Word(rest[..length].to_owned())
            }
        };
        Ok(Some((begin..self.at, token)))
    }

    fn string(&mut self, quote: char) -> Result<String, NotJson5> {
        let begin = self.at;
        let wrong = || NotJson5(begin);
        let mut out = String::new();
        let rest = self.rest();
        let mut chars = rest.char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at += i + 1;
                    return Ok(out);
                }
                '\n' | '\r' => return Err(wrong()),
                '\\' => {
                    let (_, escaped) = chars.next().ok_or_else(wrong)?;
                    let mut hex = |digits: usize| {
                        let mut value = 0;
                        for _ in 0..digits {
                            let digit = chars.next().and_then(|(_, c)| c.to_digit(16)).ok_or_else(wrong)?;
                            value = value * 16 + digit;
                        }
                        Ok(value)
                    };
                    match escaped {
                        'n' => out.push('\n'),
                        't' => out.push('\t'),
                        'r' => out.push('\r'),
                        'b' => out.push('\u{8}'),
                        'f' => out.push('\u{c}'),
                        'v' => out.push('\u{b}'),
                        '0' => out.push('\0'),
                        'x' => out.push(char::from_u32(hex(2)?).ok_or_else(wrong)?),
                        // Half of a pair is no character; no path that we look for has one.
                        'u' => out.push(char::from_u32(hex(4)?).unwrap_or(char::REPLACEMENT_CHARACTER)),
                        // A line that goes on.
                        '\r' => {
                            if rest[i..].starts_with("\\\r\n") {
                                chars.next();
                            }
                        }
                        '\n' | '\u{2028}' | '\u{2029}' => {}
                        other => out.push(other),
                    }
                }
                c => out.push(c),
            }
        }
        Err(wrong())
    }
}

/// A string in the quotes that stood there.
fn quoted(text: &str, quote: &str) -> String {
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if quote.starts_with(c) => {
                out.push('\\');
                out.push(c);
            }
            // Also legal in JSON, where no other escape of these is.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push_str(quote);
    out
}

/// Exchanges quoted strings, keys among them, for what `exchange` gives; every other byte stays. Returns
/// the new text and how many were exchanged.
///
/// # Errors
///
/// When the text is no JSON5: then it cannot be said for sure what is a string.
pub fn exchange(
    text: &str,
    exchange: &mut dyn FnMut(&str) -> Option<String>,
) -> Result<(String, u64), NotJson5> {
    let (mut out, mut done, mut count) = (String::with_capacity(text.len()), 0, 0);
    let mut lexer = Lexer::new(text);
    while let Some((place, token)) = lexer.next()? {
        let Token::Text(string) = token else { continue };
        let Some(new) = exchange(&string) else { continue };
        out.push_str(&text[done..place.start]);
        out.push_str(&quoted(&new, &text[place.start..=place.start]));
        done = place.end;
        count += 1;
    }
    out.push_str(&text[done..]);
    Ok((out, count))
}

/// The keys that lead to each value that is no object, from the outermost in; elements of arrays add
/// nothing. An empty object or array counts as a value.
///
/// # Errors
///
/// When the text is no JSON5, or nested too deeply.
pub fn leaves(text: &str) -> Result<Vec<Vec<String>>, NotJson5> {
    /// An object or array that is open.
    struct Open {
        object: bool,
        /// The key whose value comes next.
        key: Option<String>,
        empty: bool,
    }
    let mut stack: Vec<Open> = Vec::new();
    let mut found = Vec::new();
    let mut lexer = Lexer::new(text);
    let keys = |stack: &[Open]| stack.iter().filter_map(|o| o.key.clone()).collect::<Vec<_>>();
    while let Some((place, token)) = lexer.next()? {
        let wrong = NotJson5(place.start);
        match token {
            Token::Mark(mark @ (b'{' | b'[')) => {
                if stack.last().is_some_and(|o| o.object && o.key.is_none()) || stack.len() == MAX_DEPTH {
                    return Err(wrong);
                }
                if let Some(above) = stack.last_mut() {
                    above.empty = false;
                }
                stack.push(Open { object: mark == b'{', key: None, empty: true });
            }
            Token::Mark(mark @ (b'}' | b']')) => {
                let Some(open) = stack.pop().filter(|o| o.object == (mark == b'}')) else {
                    return Err(wrong);
                };
                if open.empty {
                    found.push(keys(&stack));
                }
            }
            Token::Mark(b',') => {
                if let Some(open) = stack.last_mut() {
                    open.key = None;
                }
            }
            Token::Mark(_) => {}
            Token::Text(word) | Token::Word(word) => match stack.last_mut() {
                Some(open) if open.object && open.key.is_none() => {
                    (open.key, open.empty) = (Some(word), false);
                    match lexer.next()? {
                        Some((_, Token::Mark(b':'))) => {}
                        _ => return Err(wrong),
                    }
                }
                Some(open) => {
                    open.empty = false;
                    found.push(keys(&stack));
                }
                None => found.push(Vec::new()),
            },
        }
    }
    if stack.is_empty() { Ok(found) } else { Err(NotJson5(text.len())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn moved(text: &str) -> Result<(String, u64), NotJson5> {
        exchange(text, &mut |s| s.strip_prefix("/old").map(|rest| format!("/n\"'w{rest}")))
    }

    #[test]
    fn only_the_strings_meant_change() {
        let text = "\u{feff}// \"/old/a\" it's\n{ /* '/old' */ a: '/old/b', \"/old/k\": [1e3, -Infinity, .5,\n\
                    \"see /old\", '\\x2fold/c', \"\\u002fold\\/d\\\n\",], $x_1: \"//\", 'q\\'': \"\\\\\", }";
        let want = "\u{feff}// \"/old/a\" it's\n{ /* '/old' */ a: '/n\"\\'w/b', \"/n\\\"'w/k\": [1e3, -Infinity, .5,\n\
                    \"see /old\", '/n\"\\'w/c', \"/n\\\"'w/d\",], $x_1: \"//\", 'q\\'': \"\\\\\", }";
        assert_eq!(moved(text), Ok((want.to_owned(), 4)));
        for same in ["", "{}", "'a'", "// x", "[\"/ol\\\r\nx\"]"] {
            assert_eq!(moved(same), Ok((same.to_owned(), 0)));
        }
    }

    /// A fuzzer that begins with what is refused at once finds nothing behind it.
    #[test]
    fn the_seeds_of_the_fuzz_target_are_taken() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/json5");
        let seeds: Vec<_> = std::fs::read_dir(dir).unwrap().map(|seed| seed.unwrap().path()).collect();
        assert!(seeds.len() >= 3);
        for seed in seeds {
            let text = std::fs::read_to_string(&seed).unwrap();
            assert!(!leaves(&text).unwrap().is_empty(), "{}", seed.display());
            let (_, strings) = exchange(&text, &mut |string| Some(string.to_owned())).unwrap();
            assert!(strings > 0, "{}", seed.display());
        }
    }

    #[test]
    fn what_is_no_json5_is_refused() {
        for text in ["\"/old", "'a\nb'", "/* x", "{ a: <b> }", "\"\\u12", "\"\\xg0\""] {
            assert!(moved(text).is_err(), "{text}");
        }
        for text in ["{", "}", "{a}", "{a:1]", "[}", "{:1}", &"[".repeat(1000)] {
            assert!(leaves(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_known_by_their_keys() {
        let paths = |text: &str| leaves(text).unwrap().iter().map(|p| p.join(".")).collect::<Vec<_>>();
        let text = "{ a: { 'b': 1, \"c\": [ { d: true }, 2, [] ], }, // x: 1\n e: {}, f: 'g' }";
        assert_eq!(paths(text), ["a.b", "a.c.d", "a.c", "a.c", "e", "f"]);
        assert_eq!((paths("{}"), paths(""), paths("7")), (vec![String::new()], vec![], vec![String::new()]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "[{}\\[\\]:,'\"\\\\/*a0x u\n\r\u{2028}\u{e9}]{0,40}") {
            if let Ok((same, count)) = exchange(&text, &mut |_| None) {
                proptest::prop_assert_eq!((same, count), (text.clone(), 0));
            }
            // What is put in comes out again, and stands where it was put.
            if let Ok((new, count)) = exchange(&text, &mut |s| Some(format!("{s}'\"\\\n"))) {
                let mut seen = 0;
                let (again, _) = exchange(&new, &mut |s| {
                    seen += u64::from(s.ends_with("'\"\\\n"));
                    s.strip_suffix("'\"\\\n").map(str::to_owned)
                }).unwrap();
                proptest::prop_assert_eq!(seen, count);
                proptest::prop_assert_eq!(exchange(&again, &mut |_| None).unwrap().1, 0);
            }
            drop(leaves(&text));
        }
    }
}
