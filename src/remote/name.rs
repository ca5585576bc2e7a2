//! Which names a remote takes.

/// True for a name that stays below the remote's root and is spelled in one way only.
pub(super) fn is_sound(name: &str) -> bool {
    name.split('/').all(|part| !matches!(part, "" | "." | "..")) && !name.contains('\0')
}
