//! Folders of agents that OpenClaw's configuration puts outside of the state dir: no backup of that takes them.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::Site;
use super::text::Text;

/// The keys of an agent that name folders.
const FOLDERS: [&str; 2] = ["workspace", "agentDir"];
/// More than anybody has; a list from outside must not fill a screen.
const MOST: usize = 100;

/// A folder that an agent uses and that is not in the state dir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// The key that names it, with the objects that it is in.
    pub key: String,
    /// Where it is; what a variable that is not set stands for stays its name.
    pub path: PathBuf,
}

/// All of them, each path once.
pub(super) fn outside(whole: &Json, site: &Site<'_>) -> Vec<Outside> {
    let mut found: Vec<Outside> = Vec::new();
    for (above, agent) in agents(whole) {
        for name in FOLDERS {
            let Some(path) = agent.get(name).and_then(|value| folder(value, site)) else { continue };
            let known = found.iter().any(|known| known.path == path);
            if !known && found.len() < MOST && !lies_in(&path, site.state_dir) {
                found.push(Outside { key: format!("{above}.{name}"), path });
            }
        }
    }
    found
}

/// What is said of agents: of all, and of each, in the forms that releases of OpenClaw know.
fn agents(whole: &Json) -> Vec<(String, &Json)> {
    let mut found: Vec<(String, &Json)> =
        whole.get("agent").map(|agent| ("agent".to_owned(), agent)).into_iter().collect();
    let Some(agents) = whole.get("agents") else { return found };
    found.extend(agents.get("defaults").map(|all| ("agents.defaults".to_owned(), all)));
    let entries = agents.get("entries").and_then(Json::as_object).into_iter().flatten();
    found.extend(entries.map(|(id, agent)| (format!("agents.entries.{id}"), agent)));
    let list = agents.get("list").and_then(Json::as_array).into_iter().flatten().enumerate();
    found.extend(list.map(|(at, agent)| (format!("agents.list[{at}]"), agent)));
    found
}

fn folder(value: &Json, site: &Site<'_>) -> Option<PathBuf> {
    let text = Text::of(value).ok().filter(|text| !text.is_empty())?;
    let text = text.resolved(site.env).or_else(|| value.as_str().map(str::to_owned))?;
    Some(site.local(&text))
}

/// Whether a folder is part of the state dir: a link in the state dir that leads out of it is stored as a link.
fn lies_in(path: &Path, state_dir: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match path.canonicalize() {
        Ok(path) => path.starts_with(real(state_dir)),
        // It is not there yet.
        Err(_) => path.starts_with(state_dir) || path.starts_with(real(state_dir)),
    }
}
