//! Environment variables, and the places that they imply.

use std::ffi::OsString;
use std::path::PathBuf;

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Looks variables up one by one: a copy of them all would spread secrets over the memory.
pub struct Environment(Box<Lookup>);

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(Box::new(|name| std::env::var_os(name)))
    }

    /// One made of these variables only.
    #[must_use]
    pub fn of(variables: &[(&str, &str)]) -> Self {
        let variables: Vec<(String, OsString)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        Self(Box::new(move |name| variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())))
    }

    /// One of these names only, with their values here or else those that `missing` gives.
    #[must_use]
    pub(super) fn only(
        &self,
        names: impl IntoIterator<Item = String>,
        missing: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let value = |name: String| {
            let value = self.get(&name).or_else(|| missing(&name))?;
            Some((name, value))
        };
        let variables: Vec<(String, OsString)> = names.into_iter().filter_map(value).collect();
        Self(Box::new(move |name| variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())))
    }

    /// A variable's value. An empty one counts as unset: that is how shells and service files clear one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// A variable's value as a path.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// The user's home directory.
    #[must_use]
    pub fn home(&self) -> Option<PathBuf> {
        self.path("HOME")
    }

    /// The user's directory for configuration files.
    #[must_use]
    pub fn config_home(&self) -> Option<PathBuf> {
        self.base_directory("XDG_CONFIG_HOME", ".config")
    }

    /// The user's directory for data.
    #[must_use]
    pub fn data_home(&self) -> Option<PathBuf> {
        self.base_directory("XDG_DATA_HOME", ".local/share")
    }

    /// The user's directory for what programs remember.
    #[must_use]
    pub fn state_home(&self) -> Option<PathBuf> {
        self.base_directory("XDG_STATE_HOME", ".local/state")
    }

    /// The user's directory for sockets, where the system made one.
    #[must_use]
    pub fn runtime_dir(&self) -> Option<PathBuf> {
        self.path("XDG_RUNTIME_DIR").filter(|path| path.is_absolute())
    }

    /// The user's directory for what can be made again.
    #[must_use]
    pub fn cache_home(&self) -> Option<PathBuf> {
        self.base_directory("XDG_CACHE_HOME", ".cache")
    }

    /// The state directory of OpenClaw, by its own variables.
    #[must_use]
    pub fn openclaw_state(&self) -> Option<PathBuf> {
        self.path("OPENCLAW_STATE_DIR")
            .or_else(|| Some(self.path("OPENCLAW_HOME").or_else(|| self.home())?.join(".openclaw")))
    }

    /// The XDG specification says that relative values are invalid and to be ignored.
    fn base_directory(&self, name: &str, below_home: &str) -> Option<PathBuf> {
        self.path(name)
            .filter(|path| path.is_absolute())
            .or_else(|| self.home().map(|home| home.join(below_home)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_relative_values_fall_back() {
        let env =
            Environment::of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "rel"), ("XDG_DATA_HOME", ""), ("A", "")]);
        assert_eq!(env.get("A"), None);
        assert_eq!(env.cache_home(), Some("/h/.cache".into()));
        assert_eq!(env.data_home(), Some("/h/.local/share".into()));
        assert_eq!(Environment::of(&[]).config_home(), None);
    }

    #[test]
    fn openclaw_says_where_its_state_is() {
        let state = |variables: &[(&str, &str)]| Environment::of(variables).openclaw_state();
        let all = [("OPENCLAW_STATE_DIR", "/s"), ("OPENCLAW_HOME", "/o"), ("HOME", "/h")];
        assert_eq!(state(&all), Some("/s".into()));
        assert_eq!(state(&all[1..]), Some("/o/.openclaw".into()));
        assert_eq!(state(&all[2..]), Some("/h/.openclaw".into()));
        assert_eq!(state(&[]), None);
    }
}
