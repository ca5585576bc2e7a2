//! Texts that nobody but their receiver may see.

use std::fmt;

use zeroize::Zeroizing;

/// Variables of the environment that hold secrets, or say how to get them. Only this program reads them; what
/// it starts gets none.
pub const SECRET_VARIABLES: [&str; 6] = [
    "EXUVIA_PASSPHRASE",
    "EXUVIA_NEW_PASSPHRASE",
    "EXUVIA_PASSPHRASE_COMMAND",
    "EXUVIA_NEW_PASSPHRASE_COMMAND",
    "EXUVIA_FULL_PASSPHRASE",
    "EXUVIA_FULL_PASSPHRASE_COMMAND",
];

/// A text that never shows in logs and errors, and leaves no copy behind when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text into care.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debugging_shows_nothing() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
