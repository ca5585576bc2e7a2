//! Include sets: names for parts of a state dir, as users of earlier tools know them.

use super::anchored::Patterns;
use crate::model::{Classify, ErrorClass};

/// A named part of a state dir.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IncludeSet {
    /// The agents' workspaces.
    Workspace,
    /// Configuration and approvals.
    Config,
    /// Scheduled jobs.
    Cron,
    /// Memory: notes and indexes.
    Memory,
    /// Sessions.
    Sessions,
    /// Credentials and identity.
    Credentials,
    /// Skills.
    Skills,
    /// Hooks.
    Hooks,
    /// Extensions.
    Extensions,
    /// Environment files.
    Env,
    /// All that belongs to agents.
    Agents,
    /// Pages.
    Pages,
    /// Transcripts of sessions.
    Transcripts,
}

/// A name that is no include set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown set {name:?}; the sets are {}", IncludeSet::names())]
pub struct UnknownSet {
    name: String,
}

impl Classify for UnknownSet {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

impl IncludeSet {
    /// All sets.
    pub const ALL: [Self; 13] = [
        Self::Workspace,
        Self::Config,
        Self::Cron,
        Self::Memory,
        Self::Sessions,
        Self::Credentials,
        Self::Skills,
        Self::Hooks,
        Self::Extensions,
        Self::Env,
        Self::Agents,
        Self::Pages,
        Self::Transcripts,
    ];

    /// The set's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::Config => "config",
            Self::Cron => "cron",
            Self::Memory => "memory",
            Self::Sessions => "sessions",
            Self::Credentials => "credentials",
            Self::Skills => "skills",
            Self::Hooks => "hooks",
            Self::Extensions => "extensions",
            Self::Env => "env",
            Self::Agents => "agents",
            Self::Pages => "pages",
            Self::Transcripts => "transcripts",
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The places that belong to the set, anchored at the root of the state dir; each stands for all
    /// that lies below it.
    ///
    /// Newer applications keep cron jobs in the state database, sessions, transcripts and the memory
    /// index in each agent's database, where older ones have files. Both kinds of tree are in use,
    /// and a set that silently lacked what it is named after would be worse than one that holds more.
    #[must_use]
    pub fn patterns(self) -> &'static [&'static str] {
        match self {
            Self::Workspace => &["workspace", "workspace-*"],
            Self::Config => &["openclaw.json*", "exec-approvals.json"],
            Self::Cron => &["cron", "state/*.sqlite*"],
            Self::Memory => &[
                "memory",
                "agents/*/memory",
                "agents/*/agent/*.sqlite*",
                "workspace/memory",
                "workspace/MEMORY.md",
                "workspace-*/memory",
                "workspace-*/MEMORY.md",
            ],
            Self::Sessions => &["sessions", "agents/*/sessions", "agents/*/agent/*.sqlite*"],
            Self::Credentials => {
                &["credentials", "identity", "secrets", "secrets.json", "agents/*/agent/auth*.json"]
            }
            Self::Skills => &["skills", "workspace/skills", "workspace-*/skills"],
            Self::Hooks => &["hooks"],
            Self::Extensions => &["extensions"],
            Self::Env => &[".env", ".env.*", "workspace/.env", "workspace-*/.env"],
            Self::Agents => &["agents"],
            Self::Pages => &["pages", "workspace/pages", "workspace-*/pages"],
            Self::Transcripts => &[
                "sessions/*.jsonl",
                "agents/*/sessions/*.jsonl",
                "agents/*/sessions/cold",
                "agents/*/agent/*.sqlite*",
            ],
        }
    }

    /// Reads a comma-separated list: sorted, each set once. Blanks around names and empty names are
    /// passed over.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, UnknownSet> {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut sets = names.map(str::parse).collect::<Result<Vec<Self>, _>>()?;
        sets.sort_unstable();
        sets.dedup();
        Ok(sets)
    }
}

impl std::str::FromStr for IncludeSet {
    type Err = UnknownSet;

    fn from_str(name: &str) -> Result<Self, UnknownSet> {
        let found = Self::ALL.into_iter().find(|set| set.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnknownSet { name: name.to_owned() })
    }
}

/// The places of several sets; none named means no limit.
pub(super) fn compile(sets: &[IncludeSet]) -> Option<Patterns> {
    let patterns = sets.iter().flat_map(|set| set.patterns().iter().copied());
    (!sets.is_empty()).then(|| Patterns::new(patterns))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::model::RepoPath;

    fn covers(list: &str, path: &str) -> bool {
        let sets = IncludeSet::parse_list(list).unwrap();
        compile(&sets).unwrap().covers(&RepoPath::new(path.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn lists_are_parsed_and_unknown_names_answered() {
        let sets = IncludeSet::parse_list(" config,workspace,, config ").unwrap();
        assert_eq!(sets, [IncludeSet::Workspace, IncludeSet::Config]);
        let error = IncludeSet::parse_list("config,nonsense").unwrap_err();
        assert!(error.to_string().contains("nonsense") && error.to_string().contains("transcripts"));
        assert_eq!(error.class(), ErrorClass::Usage);
        for set in IncludeSet::ALL {
            assert_eq!(set.name().parse(), Ok(set));
        }
        assert!(compile(&[]).is_none());
    }

    #[test]
    fn sets_hold_what_they_are_named_after() {
        for (set, path) in [
            ("workspace", "workspace-work/a/b"),
            ("config", "openclaw.json.bak.1"),
            ("cron", "cron/jobs.json"),
            ("memory", "agents/main/memory/main.sqlite"),
            ("memory", "workspace/MEMORY.md"),
            ("sessions", "agents/main/sessions/x.jsonl"),
            ("credentials", "credentials/x"),
            ("env", ".env"),
            ("pages", "workspace/pages/a"),
            ("transcripts", "agents/main/sessions/x.jsonl"),
        ] {
            assert!(covers(set, path), "{set} {path}");
        }
        for (set, path) in [
            ("transcripts", "agents/main/sessions/sessions.json"),
            ("workspace", "workspaces/a"),
            ("config", "workspace/openclaw.json"),
            ("memory", "workspace/notes.md"),
            ("sessions", "agents/main/agent/models.json"),
        ] {
            assert!(!covers(set, path), "{set} {path}");
        }
    }
}
