//! Identifiers: fixed-length byte strings written in lowercase hex.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;

/// A text that is not an identifier of the expected length in lowercase hex.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of {expected} lowercase hex digits")]
pub struct ParseIdError {
    expected: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The first eight hex digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                HEXLOWER.encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(s: &str) -> Result<Self, ParseIdError> {
                let error = ParseIdError { expected: 2 * $len };
                let bytes = HEXLOWER.decode(s.as_bytes()).map_err(|_| error.clone())?;
                bytes.try_into().map(Self).map_err(|_| error)
            }
        }
    };
}

id!(
    /// Names a repository; chosen at random when it is made.
    RepositoryId, 16
);
id!(
    /// Names a writer: one client on one machine.
    WriterId, 16
);
id!(
    /// Names a writer key: chosen at random when it is made.
    WriterKeyId, 24
);
id!(
    /// Names a blob: keyed BLAKE3 of its plaintext.
    BlobId, 32
);
id!(
    /// Names a sealed object (pack, index, snapshot, gc record): SHA-256 of its stored bytes.
    ObjectId, 32
);
id!(
    /// Names a key object: SHA-256 of its stored bytes.
    KeyId, 32
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_refuse_other_spellings() {
        let id = WriterId(*b"0123456789abcdef");
        let text = id.to_string();
        assert_eq!(text.parse::<WriterId>(), Ok(id));
        assert!(text.to_uppercase().parse::<WriterId>().is_err() || text == text.to_uppercase());
        assert!("3F".repeat(16).parse::<WriterId>().is_err());
        assert!(text[..30].parse::<WriterId>().is_err());
        assert!("".parse::<WriterId>().is_err());
    }
}
